"""The accuracy tables of `benchmarks/results`: the rendered suite at a fixed threshold, and real clips by the protocol.

    python -m edge_sdk.benchmarks.accuracy --suite DIR --training DIR [--clips DIR] --out DIR

On the suite every scorer must decide: the trivial ones with the threshold that was best on `--training`, the student
with the operating point in its bundle. Nothing is tuned on the suite itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_sdk.benchmarks.conditions import commit
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.clips import LabelledClip, read_labels, read_scenes
from edge_sdk.console import Progress, run_script
from edge_sdk.evaluation import ClipScores, Scorer, read_sets, to_markdown
from edge_sdk.evaluation.boundaries import StartError, coverage, start_error
from edge_sdk.evaluation.evaluate import evaluate
from edge_sdk.evaluation.metrics import average_precision, best_f1, f1_score
from edge_sdk.evaluation.protocol import prepare, scene_samples
from edge_sdk.evaluation.resample import Proportion
from edge_sdk.evaluation.student import StudentScorer
from edge_sdk.evaluation.trivial import trivial_scorers
from edge_sdk.files import write_text
from edge_sdk.types import Value

Labels = NDArray[np.bool_]


class SuiteRow(Value, frozen=True, kw_only=True):
    """One scorer on the suite. `start` speaks of crashes that the scorer detected, by its first guess."""

    scorer: str
    threshold: float | None
    f1: float
    precision: float | None
    recall: float
    clip_ap: float
    start: StartError
    coverage: Proportion | None


class SuiteReport(Value, frozen=True, kw_only=True):
    """The suite's rows and what they are made of."""

    schema: int = 1
    date_utc: str
    commit: str | None
    bundle: str
    bundle_sha256: str
    generator: str
    clips: int
    crashes: int
    training_clips: int
    rows: tuple[SuiteRow, ...]
    misses: tuple[str, ...]
    false_alarms: tuple[str, ...]


def score_suite(bundle: Bundle, suite: Sequence[LabelledClip], training: Sequence[LabelledClip]) -> SuiteReport:
    """Every trivial scorer, tuned on `training`, and the student of `bundle`, on `suite`."""
    labels = np.array([clip.crash for clip in suite])
    known = np.array([clip.crash for clip in training])
    rows = []
    for scorer in trivial_scorers():
        tuned = best_f1(known, [answer.score for answer in answers(scorer, training)]).value
        found = answers(scorer, suite)
        detected = np.array([answer.score >= tuned for answer in found])
        rows.append(row_of(scorer.name, tuned, detected, labels, found, suite))
    found = answers(StudentScorer(bundle), suite)
    detected = np.array([bool(answer.alarms_s) for answer in found])
    rows.append(row_of("student", None, detected, labels, found, suite))
    records = [clip.record for clip in suite if clip.record is not None]
    return SuiteReport(
        date_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=commit(Path(__file__).parent),
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        generator=records[0].generator if records else "",
        clips=len(suite),
        crashes=int(labels.sum()),
        training_clips=len(training),
        rows=tuple(rows),
        misses=describe_clips(suite, labels & ~detected),
        false_alarms=describe_clips(suite, ~labels & detected),
    )


def answers(scorer: Scorer, clips: Sequence[LabelledClip]) -> list[ClipScores]:
    """What `scorer` says of each clip."""
    with Progress(scorer.name) as progress:
        found = []
        for done, clip in enumerate(clips, start=1):
            found.append(scorer(clip.path))
            progress(done, len(clips))
    return found


def row_of(
    name: str,
    threshold: float | None,
    detected: Labels,
    labels: Labels,
    found: Sequence[ClipScores],
    clips: Sequence[LabelledClip],
) -> SuiteRow:
    """The row of one scorer that decided `detected`."""
    hits = int((detected & labels).sum())
    guessed = [
        (clip.start_s, answer.guesses[0])
        for clip, answer, hit in zip(clips, found, detected & labels, strict=True)
        if hit and answer.guesses and clip.start_s is not None
    ]
    bounded = [(start_s, *guess.start_interval_s) for start_s, guess in guessed if guess.start_interval_s is not None]
    return SuiteRow(
        scorer=name,
        threshold=threshold,
        f1=f1_score(labels, detected.astype(float), 0.5),
        precision=hits / int(detected.sum()) if detected.any() else None,
        recall=hits / int(labels.sum()),
        clip_ap=average_precision(labels, [answer.score for answer in found]),
        start=start_error([start_s for start_s, _ in guessed], [guess.start_s for _, guess in guessed]),
        coverage=coverage(*np.array(bounded).T) if bounded else None,
    )


def describe_clips(clips: Sequence[LabelledClip], chosen: Labels) -> tuple[str, ...]:
    """Name, view, scenario and conditions of the chosen clips: where to look next."""
    records = [clip.record for clip, wanted in zip(clips, chosen, strict=True) if wanted and clip.record is not None]
    return tuple(f"{r.name} {r.view} {r.kind} {r.scenario} {r.light} {r.weather}" for r in records)


def suite_markdown(report: SuiteReport) -> str:
    """The suite's table with its conditions."""
    lines = [
        "| scorer | F1 | precision | recall | clip AP | start error, mean (median) s | 80 % interval covers |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in report.rows:
        precision = "" if row.precision is None else f"{row.precision:.3f}"
        error = (
            "" if row.start.mae_s is None else f"{row.start.mae_s:.2f} ({row.start.median_s:.2f}), n = {row.start.n}"
        )
        share = row.coverage
        covers = "" if share is None or share.share is None else f"{share.share:.0%} ({share.lo:.0%}-{share.hi:.0%})"
        figures = f"{row.f1:.3f} | {precision} | {row.recall:.3f} | {row.clip_ap:.3f}"
        lines.append(f"| {row.scorer} | {figures} | {error} | {covers} |")
    lines.append(
        f"\n{report.clips} rendered clips, {report.crashes} with a crash, scene generator {report.generator}; trivial "
        f"thresholds tuned on {report.training_clips} training clips; start errors on detected crashes; bundle "
        f"{report.bundle} {report.bundle_sha256[:12]}, commit {report.commit}, {report.date_utc}."
    )
    return "\n".join(lines) + "\n"


def suite_tables(bundle: Bundle, folder: Path, seed: int = 0) -> str:
    """The suite by view in the form of the real clips' tables: rankings, overlap, alarms, with bootstrap intervals."""
    with Progress("suite by view") as progress:
        found = evaluate(
            scene_samples(read_scenes(folder)),
            [*trivial_scorers(), StudentScorer(bundle)],
            seed=seed,
            progress=lambda stage, done, of: progress(done, of, stage),
        )
    return to_markdown(found)


def score_real(bundle: Bundle, folder: Path, seed: int = 0) -> str:
    """The tables of the real clips in `folder` (with its `labels.csv`) as Markdown."""
    table = folder / "labels.csv"
    with TemporaryDirectory() as scratch, Progress("real clips") as progress:
        prepared = prepare(
            read_labels(table),
            Path(scratch),
            sets=read_sets(table),
            seed=seed,
            progress=lambda stage, done, of: progress(done, of, stage),
        )
        found = evaluate(
            prepared.samples,
            [*trivial_scorers(), StudentScorer(bundle)],
            seed=seed,
            progress=lambda stage, done, of: progress(done, of, stage),
        )
    skipped = "\n".join(f"- {name}: {reason}" for name, reason in prepared.skipped)
    head = f"Bundle {bundle.manifest.name} {bundle.sha256[:12]}, commit {commit(Path(__file__).parent)}.\n\n"
    return head + to_markdown(found) + (f"\nClips that gave no sample:\n{skipped}\n" if skipped else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables asked for; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--suite", type=Path)
    parser.add_argument("--training", type=Path)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    bundle = open_bundle(chosen.bundle)
    if (chosen.suite is None) != (chosen.training is None):
        parser.error("--suite and --training go together: trivial thresholds are tuned on the training scenes")
    if chosen.suite is not None:
        report = score_suite(bundle, read_scenes(chosen.suite), read_scenes(chosen.training))
        write_text(
            chosen.out / "suite.json", msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"
        )
        write_text(chosen.out / "suite.md", suite_markdown(report) + "\n" + suite_tables(bundle, chosen.suite))
    if chosen.clips is not None:
        write_text(chosen.out / "real-clips.md", score_real(bundle, chosen.clips))
    return 0


if __name__ == "__main__":
    run_script(main)
