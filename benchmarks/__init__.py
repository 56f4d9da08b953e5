"""Measurement of the device path, with its conditions: `run` measures, `compare` judges, `gate` asserts.

Its modules are opened by name; importing the package loads nothing.
"""

from __future__ import annotations
