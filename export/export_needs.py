"""What an export needs, stated before it begins: disk (exact where shapes tell) and an upper bound on memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_sdk.errors import ConfigError
from edge_sdk.export.language_plan import LanguagePlan
from edge_sdk.export.layouts import EMBEDDING, HEAD
from edge_sdk.export.stage_store import Stage, existing, free_bytes
from edge_sdk.reasoning.grid import PROFILES
from edge_sdk.types import Value

_MB = 1e6
# Python with torch and the graphs in memory, before a weight is read: 0.25 GB measured (torch 2.13, x86-64).
_PROGRAM_BYTES = 500e6
# `WeightFile` casts and transposes blocks of 256 MiB; the original, the cast and the transposed block coexist.
_BLOCK_BYTES = 3 * 2**28
# Manifest, receipts, and the file system's overhead for names and blocks.
_RESERVE_BYTES, _RESERVE_SHARE = 1 << 20, 0.01


class Needs(Value, frozen=True, kw_only=True):
    """Bytes: `work` still to be written to the work folder's disk, `out` to the bundle's disk where that is another.

    `bundle` is the size of the whole bundle. `memory` is an upper bound on the process's own peak memory while weights
    are written unquantised and references computed.
    """

    work: int
    out: int
    bundle: int
    memory: int


def needs_of(
    plan: LanguagePlan, todo: Sequence[Stage], stages: Sequence[Stage], extra: int, *, freed: int, linked: bool
) -> Needs:
    """What is needed for the stages `todo` of `stages`.

    `extra`: bytes of other files in the bundle. `freed`: bytes in the work folder that will be freed for new files.
    `linked`: work folder and bundle are on one disk, so that the bundle hard-links the stages' files.
    """
    bundle = sum(stage.size_bytes for stage in stages) + extra
    work = sum(stage.size_bytes for stage in todo) + (extra if linked else 0)
    return Needs(
        work=max(0, _reserved(work) - freed),
        out=0 if linked else _reserved(bundle),
        bundle=bundle,
        memory=int(_PROGRAM_BYTES + max(_BLOCK_BYTES + _merge_bytes(plan), _layer_bytes(plan))),
    )


def check_disk(needs: Needs, work: Path, out: Path) -> None:
    """Raise `ConfigError` with both numbers where a disk has less free space than needed."""
    for option, folder, needed in (("--work", work, needs.work), ("--out", out.parent, needs.out)):
        free = free_bytes(folder)
        if needed > free:
            raise ConfigError(
                f"{folder}: {needed / _MB:,.1f} MB are needed on this disk, {free / _MB:,.1f} MB are free; free space, "
                f"or choose another disk with {option}"
            )


def same_disk(work: Path, out: Path) -> bool:
    """Whether `out` can hard-link files of `work`."""
    return existing(work).stat().st_dev == existing(out.parent).stat().st_dev


def describe(plan: LanguagePlan, needs: Needs, work: Path, out: Path, *, rounds: bool = False) -> Iterator[str]:
    """Lines for people, including what a bundle of these settings lacks; `rounds`: weights are quantised on the way."""
    yield f"bundle {out}: about {needs.bundle / _MB:,.0f} MB"
    yield f"disk: {needs.work / _MB:,.0f} MB of {free_bytes(work) / _MB:,.0f} MB free in {work}" + (
        f", {needs.out / _MB:,.0f} MB of {free_bytes(out.parent) / _MB:,.0f} MB free in {out.parent}"
        if needs.out
        else ""
    )
    beyond = "; rounding to few bits takes more" if rounds else ""
    held = f"at most {needs.memory / _MB:,.0f} MB to write and to compute references"
    yield f"memory: {held}, beside mapped files{beyond}"
    for name in plan.recipe.profiles:
        tokens, slots = PROFILES[name].frames * PROFILES[name].size.tokens, max(plan.recipe.slots)
        if tokens > slots:
            yield f"note: a whole clip of {name} takes {tokens:,} tokens, and the largest cache has {slots:,} slots"


def _reserved(size: int) -> int:
    return int(size * (1 + _RESERVE_SHARE)) + _RESERVE_BYTES


def _layer_bytes(plan: LanguagePlan) -> int:
    """Memory for a decoder layer in float32 and its largest sum with LoRA, while references are computed."""
    text = plan.checkpoint.config.text
    attention = 2 * text.hidden * (text.heads + text.kv_heads) * text.head_dim
    return 4 * (attention + 5 * text.hidden * text.intermediate)


def _merge_bytes(plan: LanguagePlan) -> int:
    """Memory for merging LoRA into the largest weight: the product in float32, the weight in float32, the result."""
    if plan.recipe.switchable or not plan.adapters:
        return 0
    sizes = (plan.checkpoint.spec(name).shape for name in plan.checkpoint.names() if name not in (EMBEDDING, HEAD))
    largest = max(int(shape[0]) * int(shape[-1]) for shape in sizes)
    return largest * (4 + 4 + 2)
