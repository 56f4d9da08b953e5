"""Calibration: activation statistics, operating points and rendered traffic for training and tests."""
