"""Run scorers over samples and tabulate: every scorer sees every sample, every table shows all scorers side by side.

Memory holds one answer per scorer and sample, but no frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_sdk.errors import ConfigError, EdgeError
from edge_sdk.evaluation import boundaries
from edge_sdk.evaluation.protocol import Progress, silent
from edge_sdk.evaluation.report import Evaluation, Table
from edge_sdk.evaluation.rows import Answers, row_of
from edge_sdk.evaluation.samples import TRACKS, Sample
from edge_sdk.evaluation.scorer import ClipScores, Scorer
from edge_sdk.evaluation.trivial import constant_interval


def evaluate(
    samples: Sequence[Sample],
    scorers: Sequence[Scorer],
    *,
    seed: int,
    bootstrap: int = 1000,
    progress: Progress | None = None,
) -> Evaluation:
    """Score all `samples` with all `scorers` and tabulate by track, then by view and set.

    A sample that any scorer cannot read is left out for all and listed. Raises `ConfigError` if no sample remains.
    """
    if not samples or not scorers:
        raise ConfigError(f"expected samples and scorers, found {len(samples)} and {len(scorers)}")
    kept, columns, failed = _score(samples, scorers, progress or silent)
    if not kept:
        raise ConfigError(f"none of {len(samples)} samples could be scored; the first: {failed[0][0]}: {failed[0][1]}")
    answers = [
        Answers(scorer=scorer.name, samples=kept, scores=column)
        for scorer, column in zip(scorers, columns, strict=True)
    ]
    tables = tuple(
        _table(name, [each.of(chosen) for each in answers], seed=seed, rounds=bootstrap) for name, chosen in parts(kept)
    )
    return Evaluation(seed=seed, bootstrap=bootstrap, tables=tables, failed=tuple(failed))


def _score(
    samples: Sequence[Sample], scorers: Sequence[Scorer], progress: Progress
) -> tuple[list[Sample], list[list[ClipScores]], list[tuple[str, str]]]:
    kept: list[Sample] = []
    columns: list[list[ClipScores]] = [[] for _ in scorers]
    failed: list[tuple[str, str]] = []
    for done, sample in enumerate(samples):
        progress("score", done, len(samples))
        try:
            answers = [scorer(sample.path) for scorer in scorers]
        except EdgeError as error:
            failed.append((f"{sample.track}/{sample.path.name}", str(error)))
            continue
        kept.append(sample)
        for column, answer in zip(columns, answers, strict=True):
            column.append(answer)
    return kept, columns, failed


def parts(samples: Sequence[Sample]) -> Iterator[tuple[str, list[int]]]:
    """Yield names and members of the tables: per track all samples, each view and each set; equal members only once.

    Windows are matched within a view, so they are not divided by set.
    """
    for track in TRACKS:
        of_track = [i for i, sample in enumerate(samples) if sample.track == track]
        sets = [samples[i].set for i in of_track if track != "windows"]
        names = dict.fromkeys(["all", *(samples[i].view for i in of_track), *sets])
        seen = set()
        for name in names:
            members = [i for i in of_track if name in ("all", samples[i].view, samples[i].set)]
            if members and tuple(members) not in seen:
                seen.add(tuple(members))
                yield name, members


def _table(name: str, answers: Sequence[Answers], *, seed: int, rounds: int) -> Table:
    samples = answers[0].samples
    spans = [(s.start_s, s.end_s) for s in samples if s.crash and s.start_s is not None and s.end_s is not None]
    blind = []
    if any(end_s > start_s for start_s, end_s in spans):
        fixed = constant_interval(boundaries.best_constant_interval(spans))
        blind = [Answers(scorer="best constant interval", samples=samples, scores=[fixed] * len(samples))]
    return Table(
        track=samples[0].track,
        name=name,
        crashes=sum(sample.kind == "crash" for sample in samples),
        normals=sum(sample.kind == "normal" for sample in samples),
        pre_crash=sum(sample.kind == "pre_crash" for sample in samples),
        minutes=sum(sample.duration_s for sample in samples) / 60,
        rows=tuple(row_of(each, seed=seed, rounds=rounds) for each in [*blind, *answers]),
    )
