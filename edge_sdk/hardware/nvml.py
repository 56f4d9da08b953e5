"""Clock and free memory of a graphics card, and what lowers its clock, asked of NVIDIA's management library.

Constants and signatures: NVML API Reference Guide, `nvml.h`. The calls are older than their names in recent guides,
which speak of clock events in place of throttling, and recent drivers still have them. Nothing is changed.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import NamedTuple

LIBRARY = "libnvidia-ml.so.1"
_SM_CLOCK = 1  # NVML_CLOCK_SM
# nvmlClocksThrottleReason*; the other bits say that the card is idle, or that someone set its clock.
_REASONS = {
    0x04: "its power limit",
    0x08: "its hardware",
    0x20: "heat",
    0x40: "heat, in hardware",
    0x80: "the power supply",
}


class CardClock(NamedTuple):
    """The clock of a card's multiprocessors in MHz, None where it is not told, and what lowers it at this moment."""

    mhz: float | None
    slowed_by: tuple[str, ...]


def card_clock(library: str = LIBRARY) -> CardClock | None:
    """Read the only graphics card once.

    None where NVIDIA's library is missing or does not tell, and where it has several cards: which of them computes
    is then not known here.
    """
    opened = _opened(library)
    if opened is None:
        return None
    driver, card = opened
    mhz, reasons = ctypes.c_uint(), ctypes.c_ulonglong()
    if not _told(driver, "nvmlDeviceGetCurrentClocksThrottleReasons", card, ctypes.byref(reasons)):
        return None
    known = _told(driver, "nvmlDeviceGetClockInfo", card, _SM_CLOCK, ctypes.byref(mhz))
    slowed_by = tuple(words for bit, words in _REASONS.items() if reasons.value & bit)
    return CardClock(float(mhz.value) if known else None, slowed_by)


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def card_free_mb(library: str = LIBRARY) -> float | None:
    """Return the free memory of the only graphics card in 10^6 bytes; None in the cases of `card_clock`."""
    opened, memory = _opened(library), _Memory()
    if opened is None or not _told(opened[0], "nvmlDeviceGetMemoryInfo", opened[1], ctypes.byref(memory)):
        return None
    return float(memory.free) / 1e6


@cache
def _opened(library: str) -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """Open the library for the rest of the process, and the only card."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    count, card = ctypes.c_uint(), ctypes.c_void_p()
    if not _told(driver, "nvmlInit_v2") or not _told(driver, "nvmlDeviceGetCount_v2", ctypes.byref(count)):
        return None
    if count.value != 1 or not _told(driver, "nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(card)):
        return None
    return driver, card


# object: ctypes decides which arguments a C function takes.
def _told(driver: ctypes.CDLL, function: str, *arguments: object) -> bool:
    """Call `function`; false if this driver lacks it or refuses."""
    call = getattr(driver, function, None)
    return call is not None and call(*arguments) == 0
