"""Activations in 8 bits: their scales, the smoothing that moves their spread into weights, and rounding in graphs."""
