"""Hardware as data: what this machine is and how it fares, and the targets this SDK is made for."""

from edge_sdk.hardware.probes import Conditions, Machine, identify, observe
from edge_sdk.hardware.targets import CPU, TARGETS, Target, find_target, target_of

__all__ = ["CPU", "Conditions", "Machine", "TARGETS", "Target", "find_target", "identify", "observe", "target_of"]
