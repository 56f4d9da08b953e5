"""Measurement of the device path, with its conditions: `run` measures, `compare` judges, `gate` asserts.

Import its modules by name; importing the package loads none of them.
"""

from __future__ import annotations
