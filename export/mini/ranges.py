"""The ranges of the numbers in a language recipe, by key."""

from __future__ import annotations

from collections.abc import Mapping

from edge_sdk.export.ranges import ABOVE_0, AT_LEAST_0, AT_LEAST_1, BELOW_1, SHARE, UP_TO_1, Range


def _under(table: str, ranges: Mapping[str, Range]) -> dict[str, Range]:
    return {f"{table}.{key}": allowed for key, allowed in ranges.items()}


_STAGE: Mapping[str, Range] = {
    "steps": AT_LEAST_1,
    "batch": AT_LEAST_1,
    "learning_rate": ABOVE_0,
    "weight_decay": AT_LEAST_0,
    "warm_up_share": SHARE,
    "clip_norm": ABOVE_0,
    "save_every": AT_LEAST_1,
}
_WINDOWS: Mapping[str, Range] = {"whole": SHARE, "least_s": AT_LEAST_0}
_TUNING: Mapping[str, Range] = {
    "questions": AT_LEAST_1,
    "driving": AT_LEAST_0,
    "rank": AT_LEAST_1,
    "alpha": ABOVE_0,
    "dropout": BELOW_1,
    **_under("stage", _STAGE),
}


LANGUAGE: Mapping[str, Range] = {
    "seed": AT_LEAST_0,
    **_under("sizes", dict.fromkeys(("hidden", "heads", "kv_heads"), AT_LEAST_1)),
    **_under("sizes", dict.fromkeys(("tower_layers", "tower_intermediate"), AT_LEAST_1)),
    **_under("sizes", dict.fromkeys(("decoder_layers", "decoder_intermediate"), AT_LEAST_1)),
    **_under("windows", _WINDOWS),
    "views.whole": SHARE,
    "views.least": UP_TO_1,
    "views.light": AT_LEAST_0,
    **_under("tower", _STAGE),
    **_under("language.auxiliary", dict.fromkeys(("patches", "tokens", "moments", "places"), AT_LEAST_0)),
    "language.phases.questions": AT_LEAST_1,
    "language.phases.sayings": AT_LEAST_0,
    **_under("language.phases.stage", _STAGE),
    **_under("language.phases.windows", _WINDOWS),
    **_under("linguistic", _TUNING),
    **_under("perception", _TUNING),
}
