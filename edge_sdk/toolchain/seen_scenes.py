"""Whether a student or a video LLM was trained on clips: scenes by the recipes in its bundle, others by their marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.student_origin import clips_seen, lineage, mark_of
from edge_sdk.clips import LabelledClip
from edge_sdk.errors import ConfigError
from edge_sdk.registry import open_room

# The generator's name of a family, and seeds of it.
_Seeds = tuple[str, range | frozenset[int]]


def trained_on(bundle: Bundle, clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    """Return the `clips` that its student was tuned on, or whose seed and family its recipes name for training."""
    chosen, marks = list(_chosen(bundle)), frozenset(clips_seen(bundle))

    return [clip for clip in clips if _is_among(clip, chosen) or (marks and mark_of(clip) in marks)]


def language_trained_on(bundle: Bundle, clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    """Return the `clips` that the recipes of its video LLM, and of those it was trained from, name for training."""
    chosen = list(_chosen_for_language(bundle))

    return [clip for clip in clips if _is_among(clip, chosen)]


def refuse_seen(bundle: Bundle, clips: Sequence[LabelledClip]) -> None:
    """Raise `ConfigError` if its student was trained on any of `clips`, on which it is to be judged."""
    if seen := trained_on(bundle, clips):
        raise ConfigError(
            f"{bundle.folder}: expected a student that has seen none of the clips that it is scored on, found that it "
            f"was trained on {len(seen)} of {len(clips)}, {seen[0].path.name} first; take the bundle that it was tuned "
            "from, or other clips"
        )


def _is_among(clip: LabelledClip, chosen: Sequence[_Seeds]) -> bool:
    record = clip.record
    return record is not None and any(record.generator == name and record.seed in seeds for name, seeds in chosen)


def _chosen(bundle: Bundle) -> Iterator[_Seeds]:
    families, choice = open_room("calibration.scenes.families"), open_room("calibration.scenes.choice")
    for recipe in _recipes(bundle):
        try:
            scenes = msgspec.toml.decode(recipe).get("scenes", {})
        except msgspec.DecodeError:
            continue
        for name in ("training", "further"):
            match scenes.get(name):
                case {"first": int(first), "count": int(count), **rest} if count > 0 and first >= 0:
                    family = families.find_family(rest.get("family", families.DEFAULT_FAMILY))
                    yield family.generator, frozenset(choice.choose_seeds(first, count, rest.get("of", "any")))


def _chosen_for_language(bundle: Bundle) -> Iterator[_Seeds]:
    families, known = open_room("calibration.scenes.families"), bundle.manifest.provenance.get("language")
    while isinstance(known, dict):
        try:
            sets = msgspec.toml.decode(known.get("recipe", "")).get("scenes", {}).get("training", [])
        except msgspec.DecodeError:
            sets = []
        for each in sets:
            match each:
                case {"family": str(name), "first": int(first), "count": int(count)} if count > 0 and first >= 0:
                    yield families.find_family(name).generator, range(first, first + count)
                case {"family": str(name)} if "count" not in each:
                    family = families.find_family(name)
                    yield family.generator, frozenset(family.suite())
        known = known.get("start", {}).get("language")


def _recipes(bundle: Bundle) -> Iterator[str]:
    """Yield the recipe of the student, and those of the students that it was trained from."""
    for known in lineage(bundle):
        if isinstance(recipe := known.get("recipe"), str):
            yield recipe
