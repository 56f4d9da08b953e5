"""Make the accuracy tables of `benchmarks/results`: the rendered suite at fixed thresholds, real clips by the protocol.

    python -m edge_sdk.benchmarks.accuracy --suite DIR --training DIR [--clips DIR] --out DIR

On the suite every scorer must decide: trivial scorers with the threshold that was best on `--training`, the student
with the operating point in its bundle. Nothing is tuned on the suite itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from edge_sdk.benchmarks.conditions import commit
from edge_sdk.benchmarks.suite import Decided, SuiteReport, condition_rows, describe_clips, row_of, suite_markdown
from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.clips import LabelledClip, read_labels, read_scenes
from edge_sdk.console import Progress, run_script
from edge_sdk.evaluation import ClipScores, Scorer, read_sets, to_markdown
from edge_sdk.evaluation.evaluate import evaluate
from edge_sdk.evaluation.metrics import best_f1
from edge_sdk.evaluation.protocol import prepare, scene_samples
from edge_sdk.evaluation.student import StudentScorer
from edge_sdk.evaluation.trivial import trivial_scorers
from edge_sdk.files import write_text


class Remembered:
    """A scorer that scores each file only once and remembers the result; files must not change meanwhile."""

    def __init__(self, scorer: Scorer) -> None:
        self.name = scorer.name
        self._scorer = scorer
        self._known: dict[Path, ClipScores] = {}

    def __call__(self, path: Path) -> ClipScores:
        """Score the clip at `path`. Raises `SourceError` for a clip that cannot be read."""
        if path not in self._known:
            self._known[path] = self._scorer(path)
        return self._known[path]


def score_suite(
    bundle: Bundle,
    suite: Sequence[LabelledClip],
    training: Sequence[LabelledClip],
    trivial: Sequence[Remembered],
    student: Scorer,
) -> SuiteReport:
    """Score `suite` with each of `trivial`, tuned on `training`, and with the `student` of `bundle`."""
    rows = [row_of(decided) for decided in tuned_trivial(trivial, suite, training)]
    found = answers(student, suite)
    alarmed = np.array([bool(answer.alarms_s) for answer in found])
    decided = Decided(scorer=student.name, threshold=None, clips=suite, found=found, detected=alarmed)
    labels, detected = decided.labels, decided.detected
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
        rows=(*rows, row_of(decided)),
        conditions=condition_rows(decided),
        misses=describe_clips(suite, labels & ~detected),
        false_alarms=describe_clips(suite, ~labels & detected),
    )


def tuned_trivial(
    scorers: Sequence[Remembered], suite: Sequence[LabelledClip], training: Sequence[LabelledClip]
) -> Iterator[Decided]:
    """The decisions of each of `scorers` on `suite`, with the threshold that was best on `training`."""
    known = [clip.crash for clip in training]
    # A clip's motion is cached for the next scorers, so that one decoding serves all of them.
    with Progress("trivial scorers") as progress:
        for done, clip in enumerate([*training, *suite], start=1):
            for scorer in scorers:
                scorer(clip.path)
            progress(done, len(training) + len(suite))
    for scorer in scorers:
        tuned = best_f1(known, [answer.score for answer in answers(scorer, training)]).value
        found = answers(scorer, suite)
        detected = np.array([answer.score >= tuned for answer in found])
        yield Decided(scorer=scorer.name, threshold=tuned, clips=suite, found=found, detected=detected)


def answers(scorer: Scorer, clips: Sequence[LabelledClip]) -> list[ClipScores]:
    """The scores that `scorer` gives each clip."""
    with Progress(scorer.name) as progress:
        found = []
        for done, clip in enumerate(clips, start=1):
            found.append(scorer(clip.path))
            progress(done, len(clips))
    return found


def suite_tables(scorers: Sequence[Scorer], folder: Path) -> str:
    """Tables of the suite by view, like the real clips' tables: rankings, overlap, alarms, with bootstrap intervals."""
    with Progress("suite by view") as progress:
        found = evaluate(
            scene_samples(read_scenes(folder)),
            scorers,
            seed=0,
            progress=lambda stage, done, of: progress(done, of, stage),
        )
    return to_markdown(found)


def score_real(bundle: Bundle, folder: Path) -> str:
    """The tables of the real clips in `folder` (with its `labels.csv`) as Markdown."""
    table = folder / "labels.csv"
    with TemporaryDirectory() as scratch, Progress("real clips") as progress:
        prepared = prepare(
            read_labels(table),
            Path(scratch),
            sets=read_sets(table),
            seed=0,
            progress=lambda stage, done, of: progress(done, of, stage),
        )
        found = evaluate(
            prepared.samples,
            [*trivial_scorers(), StudentScorer(bundle)],
            seed=0,
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
        parser.error("give --suite and --training together: trivial thresholds are tuned on the training scenes")
    if chosen.suite is not None:
        trivial = [Remembered(scorer) for scorer in trivial_scorers()]
        student = Remembered(StudentScorer(bundle))
        report = score_suite(bundle, read_scenes(chosen.suite), read_scenes(chosen.training), trivial, student)
        write_text(
            chosen.out / "suite.json", msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"
        )
        write_text(
            chosen.out / "suite.md", suite_markdown(report) + "\n" + suite_tables([*trivial, student], chosen.suite)
        )
    if chosen.clips is not None:
        write_text(chosen.out / "real-clips.md", score_real(bundle, chosen.clips))
    return 0


if __name__ == "__main__":
    run_script(main)
