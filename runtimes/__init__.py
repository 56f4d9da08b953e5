"""Inference runtimes, opened by name: ONNX Runtime, TensorRT, and one that computes nothing."""

import os

# When it is imported, ONNX Runtime (1.29 and later) begins a thread that tells its maker of its use, and whose end a
# forked process waits for in vain. A device in a car does neither; whoever wants it sets this to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
