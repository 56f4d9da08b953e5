"""Inference runtimes, opened by name: ONNX Runtime, TensorRT, and one that computes nothing."""

import os

# On import, ONNX Runtime 1.29 and later starts a telemetry thread that reports usage to its vendor. A forked process
# waits forever for that thread to end. Neither belongs in a car, so telemetry is off; set this to 0 to turn it on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
