"""A clip in a decoder's cache, and the questions and answers that branch from it: slots, masks and calls."""

from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.cache.prefix import Addition, Grown, Mark, Prefix
from edge_sdk.reasoning.cache.slots import TRUNK, SlotTree

__all__ = ["Addition", "CallShape", "Grown", "Mark", "Prefix", "SlotTree", "TRUNK"]
