"""Weights in fewer bits: how they are rounded, stored and read by the graphs, and what that costs in accuracy."""
