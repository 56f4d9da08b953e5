"""The export toolchain, for a workstation: student graphs, training, ONNX, the compile gate."""
