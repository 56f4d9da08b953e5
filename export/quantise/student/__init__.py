"""The student with 8-bit weights and activations: calibrated on clips, checked layer by layer, written as a bundle."""
