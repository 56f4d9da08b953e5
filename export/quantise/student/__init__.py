"""The student with 8-bit weights and activations: calibrated on clips, checked layer by layer, written as a bundle."""

import os

# See `edge_sdk.runtimes`: ONNX Runtime sends usage telemetry unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
