"""The parts of `device_campaign`: rows, limits of the hardware, jobs as processes, and what each of them measures.

Its modules are opened by name; importing the package loads nothing.
"""

from __future__ import annotations
