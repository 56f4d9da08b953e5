"""Hardware as data: what this machine is and which state it is in, and the targets this SDK is made for."""

from edge_sdk.hardware.clock import Discipline, UtcTime, discipline, utc_of
from edge_sdk.hardware.figures import Figure, Target
from edge_sdk.hardware.jetpack import JETPACKS, JetPack, dialect_of, jetpack_of, newest_jetpack
from edge_sdk.hardware.power import Draw, read_draw, whole_draw
from edge_sdk.hardware.probes import Conditions, Machine, identify, observe
from edge_sdk.hardware.targets import CPU, TARGETS, find_target, target_of

__all__ = [
    "CPU",
    "Conditions",
    "Discipline",
    "Draw",
    "Figure",
    "JETPACKS",
    "JetPack",
    "Machine",
    "TARGETS",
    "Target",
    "UtcTime",
    "dialect_of",
    "discipline",
    "find_target",
    "identify",
    "jetpack_of",
    "newest_jetpack",
    "observe",
    "read_draw",
    "target_of",
    "utc_of",
    "whole_draw",
]
