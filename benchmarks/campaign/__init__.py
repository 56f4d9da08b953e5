"""The parts of `device_campaign`: rows, hardware limits, jobs as processes, and the measurements of each job.

Import its modules by name; importing the package loads none of them.
"""

from __future__ import annotations
