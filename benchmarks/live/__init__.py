"""Measurements of live sources with a real RTSP server whose pictures show the time at which they were drawn."""
