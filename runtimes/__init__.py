"""Inference runtimes, opened by name: ONNX Runtime, TensorRT, and one that computes nothing."""
