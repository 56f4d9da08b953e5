"""The student on the device: frames to planes, planes to scores, scores to a timeline."""

from __future__ import annotations
