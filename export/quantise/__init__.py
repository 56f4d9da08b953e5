"""Quantisation: how weights are rounded, stored and read by the graphs, and what that costs in accuracy."""
