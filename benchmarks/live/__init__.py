"""Live sources measured against a real RTSP server whose pictures carry the time at which they were drawn."""
