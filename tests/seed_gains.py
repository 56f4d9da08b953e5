"""What variants of a model gain over a plain one, each trained from several seeds: means, standard errors, a floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import msgspec
from measured import table
from scipy.stats import t

Found = Mapping[str, float | None]


class Metric(msgspec.Struct, frozen=True):
    """A metric's name, whether more of it is better, and whether it is one of those of which one must gain."""

    name: str
    rising: bool = True
    to_gain: bool = False


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's mean over seeds, and its gain over the plain variant, seed by seed; positive is better.

    Errors are standard errors of the means; `in_errors` is the gain in its own, None where every seed gained the same.
    """

    mean: float
    error: float
    gain: float
    gain_error: float
    in_errors: float | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A variant's figures by metric, None where a seed has no value, and whether it keeps to the floor."""

    variant: str
    figures: dict[str, Figure | None]
    floor: str


# A gain of more than so many standard errors is one.
ENOUGH = 2.0


def standard_error(values: Sequence[float]) -> float:
    """That of the mean of at least two values."""
    return stdev(values) / math.sqrt(len(values))


def figure(values: Sequence[float | None], plain: Sequence[float | None], rising: bool = True) -> Figure | None:
    """A metric by seed beside that of the plain variant; None where a value is missing."""
    found, before = ([value for value in each if value is not None] for each in (values, plain))
    if len(found) < len(values) or len(before) < len(plain):
        return None
    gains = [value - other if rising else other - value for value, other in zip(found, before, strict=True)]
    gain, error = fmean(gains), standard_error(gains)
    in_errors = gain / error if error else None
    return Figure(mean=fmean(found), error=standard_error(found), gain=gain, gain_error=error, in_errors=in_errors)


def floor(figures: Mapping[str, Figure | None], metrics: Sequence[Metric]) -> str:
    """Whether no metric is worse and one that is to gain is better by more than `ENOUGH` standard errors, and which."""
    known = {name: each for name, each in figures.items() if each is not None}
    wanted = [metric.name for metric in metrics if metric.to_gain and metric.name in known]
    better = [name for name in wanted if (known[name].in_errors or 0.0) > ENOUGH]
    worse = [f"{name} ({_errors(each)})" for name, each in known.items() if each.gain < 0]
    held = "held" if better and not worse else "not held"
    return f"{held}; clearly better: {', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}"


def summarise(found: Mapping[tuple[str, int], Found], metrics: Sequence[Metric]) -> list[Row]:
    """A row a variant, of what was `found` by variant and seed; the first variant is the plain one."""
    variants, seeds = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    rows: list[Row] = []
    for variant in variants:
        figures = {
            metric.name: figure(
                [found[variant, seed][metric.name] for seed in seeds],
                [found[variants[0], seed][metric.name] for seed in seeds],
                metric.rising,
            )
            for metric in metrics
        }
        rows.append(Row(variant=variant, figures=figures, floor="" if not rows else floor(figures, metrics)))
    return rows


def sure_errors(seeds: int) -> float:
    """Standard errors of a mean of so many values within which it is 95 % of the time if there is nothing."""
    return float(t.ppf(0.975, seeds - 1))


def lines(rows: Sequence[Row], metrics: Sequence[Metric], seeds: int) -> list[str]:
    """A table of the figures of so many seeds, one of the floor, and what they mean."""
    names = [metric.name for metric in metrics]
    cells = [[row.variant, *(_cell(row.figures[name], bool(row.floor)) for name in names)] for row in rows]
    floors = [[row.variant, row.floor] for row in rows[1:]]
    wanted = [metric.name for metric in metrics if metric.to_gain]
    return [
        *table(f"variant | {' | '.join(names)}", cells),
        "",
        f"Mean ± standard error over seeds; in brackets the gain over `{rows[0].variant}`, paired by seed, positive "
        "where better, and in its own standard errors (SE): they tell how training varies, not how clips do. Floor: no "
        f"metric worse, and {', '.join(wanted[:-1])} or {wanted[-1]} better by more than {ENOUGH:g} SE. "
        f"Of {seeds} seeds a gain of chance alone is within {sure_errors(seeds):.1f} SE 95 times in 100 (Student's t).",
        "",
        *table("variant | floor", floors),
    ]


def _cell(each: Figure | None, compared: bool) -> str:
    if each is None:
        return "-"
    gain = f" ({each.gain:+.3f}, {_errors(each)})" if compared else ""
    return f"{each.mean:.3f} ± {each.error:.3f}{gain}"


def _errors(each: Figure) -> str:
    return "no spread" if each.in_errors is None else f"{each.in_errors:+.1f} SE"
