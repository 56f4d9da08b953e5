"""The export toolchain, for a workstation: checkpoints to bundles, engines, the compile gate, and training."""
