"""Evaluate students on real clips, in five folds by recording, with trivial scorers for comparison.

    python -m edge_sdk.benchmarks.real_clips --clips DIR --work DIR --out DIR \\
        --bundle "rendered only=BUNDLE" --folds "rendered then real=DIR" --folds "real only=DIR"

The folder given to `--clips` holds the clips and their `labels.csv`; `python -m edge_sdk.export.distil.folds` writes
the folders for `--folds`. Samples and scores are kept in `--work`. The first student named is compared with every other
scorer on the same samples, and its scores are drawn as a reliability diagram.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

import edge_sdk
from edge_sdk import _native
from edge_sdk.benchmarks.conditions import commit
from edge_sdk.benchmarks.fold_scorers import FoldScorer
from edge_sdk.benchmarks.reliability import cross_fitted, reliability
from edge_sdk.bundle import Bundle
from edge_sdk.clips import LabelledClip, read_labels
from edge_sdk.console import Progress, run_script
from edge_sdk.errors import ConfigError
from edge_sdk.evaluation import ClipScores, Evaluation, Scorer, read_sets, to_markdown
from edge_sdk.evaluation.evaluate import evaluate
from edge_sdk.evaluation.folds import assign_folds
from edge_sdk.evaluation.paired import clip_ap, difference, frame_auc, start_within, value_of
from edge_sdk.evaluation.prepared_file import read_prepared, write_prepared
from edge_sdk.evaluation.protocol import Prepared, prepare
from edge_sdk.evaluation.report import Measure
from edge_sdk.evaluation.rows import Answers
from edge_sdk.evaluation.samples import Sample, Track
from edge_sdk.evaluation.sets import without_false_ends
from edge_sdk.evaluation.stored import StoredScorer
from edge_sdk.evaluation.student import StudentScorer
from edge_sdk.evaluation.tasks.calibration import Calibration
from edge_sdk.evaluation.trivial import VERSION, trivial_scorers
from edge_sdk.evaluation.within_folds import Statistic, ranked_within
from edge_sdk.files import write_json, write_text
from edge_sdk.picture import draw_reliability
from edge_sdk.registry import DEFAULT_RUNTIME, open_runtime
from edge_sdk.toolchain.seen_scenes import refuse_seen
from edge_sdk.types import Value

TRACKS: tuple[Track, ...] = ("windows", "streams")
METRICS = {"clip AP": clip_ap, "frame AUC": frame_auc, "start <= 1 s": start_within}
WITHIN: dict[str, Statistic] = {"clip AP in folds": "average_precision", "clip AUC in folds": "roc_auc"}
# A verdict on a whole stream tells little, and a window's start reveals something about its crash's start.
COMPARED: tuple[tuple[Track, str], ...] = (
    ("windows", "clip AP"),
    ("windows", "frame AUC"),
    ("windows", "start <= 1 s"),
    ("streams", "frame AUC"),
    ("streams", "start <= 1 s"),
)
ROUNDS = 1000


class Gain(Value, frozen=True, kw_only=True):
    """How much the first scorer is better than `other` on the same samples."""

    view: str
    track: Track
    metric: str
    other: str
    gain: Measure


class InFolds(Value, frozen=True, kw_only=True):
    """How well a scorer ranks a view's windows within their own fold, and how much better `subject` ranks them."""

    view: str
    metric: str
    scorer: str
    value: Measure
    gain: Measure


class RealReport(Value, frozen=True, kw_only=True):
    """The tables, the paired differences to `subject`, and the data behind them."""

    schema: int = 1
    date_utc: str
    commit: str | None
    folds: int
    students: dict[str, str]
    subject: str
    evaluation: Evaluation
    gains: tuple[Gain, ...]
    in_folds: tuple[InFolds, ...]
    reliability: dict[str, Calibration]
    skipped: tuple[tuple[str, str], ...]


def prepared_samples(folder: Path, work: Path, folds: int, seed: int, progress: Progress) -> Prepared:
    """The samples of the labelled clips in `folder`; made in `work` unless samples of the same labels exist."""
    table = folder / "labels.csv"
    clips = without_false_ends(table, read_labels(table))
    place = work / f"samples-{folds}-{seed}-{_label_digest(table, clips)}"
    if (place / "prepared.json").is_file():
        return read_prepared(place / "prepared.json")
    prepared = prepare(
        clips,
        place,
        sets=read_sets(table),
        seed=seed,
        folds=assign_folds(clips, folds),
        progress=lambda stage, done, of: progress(done, of, stage),
    )
    write_prepared(place / "prepared.json", prepared)
    return prepared


def _label_digest(table: Path, clips: Sequence[LabelledClip]) -> str:
    """Digest of a table and its clips; clips count by their sizes, because reading whole archives takes long."""
    sizes = ",".join(f"{clip.path.stat().st_size} {clip.end_s}" for clip in clips)
    return hashlib.sha256(table.read_bytes() + sizes.encode()).hexdigest()[:12]


def gains_of(subject: Scorer, others: Sequence[Scorer], samples: Sequence[Sample], seed: int) -> list[Gain]:
    """Every paired difference of `COMPARED`, over all clips and each view."""
    found = []
    for track, metric in COMPARED:
        of_track = [sample for sample in samples if sample.track == track]
        for view in ("all", *sorted({sample.view for sample in of_track})):
            chosen = [sample for sample in of_track if view in ("all", sample.view)]
            first = _answers(subject, chosen)
            for other in others:
                gain = difference(first, _answers(other, chosen), METRICS[metric], seed=seed, rounds=ROUNDS)
                found.append(Gain(view=view, track=track, metric=metric, other=other.name, gain=gain))
    return found


def in_folds(
    subject: Scorer, scorers: Sequence[Scorer], samples: Sequence[Sample], folds: Mapping[str, int], seed: int
) -> list[InFolds]:
    """Every metric of `WITHIN` of every scorer, over all windows and each view."""
    windows = [sample for sample in samples if sample.track == "windows"]
    found = []
    for view in ("all", *sorted({sample.view for sample in windows})):
        chosen = [sample for sample in windows if view in ("all", sample.view)]
        first = _answers(subject, chosen)
        for name, statistic in WITHIN.items():
            metric = ranked_within(folds, statistic)
            for scorer in scorers:
                said = _answers(scorer, chosen)
                value = value_of(said, metric, seed=seed, rounds=ROUNDS)
                gain = difference(first, said, metric, seed=seed, rounds=ROUNDS)
                found.append(InFolds(view=view, metric=name, scorer=scorer.name, value=value, gain=gain))
    return found


def reliability_of(
    scorer: Scorer, samples: Sequence[Sample], folds: Mapping[str, int], seed: int
) -> dict[str, Calibration]:
    """Calibration of windows' scores as probabilities: unchanged, and on a scale fitted on the other folds."""
    found = _answers(scorer, [sample for sample in samples if sample.track == "windows"])
    score = [each.score for each in found.scores]
    fitted = cross_fitted(
        [sample.crash for sample in found.samples], score, [folds[sample.group] for sample in found.samples]
    )
    return {
        name: reliability(found, said, seed=seed, rounds=ROUNDS)
        for name, said in (("as it comes", np.array(score)), ("fitted on the other folds", fitted))
    }


def _answers(scorer: Scorer, samples: Sequence[Sample]) -> Answers:
    return Answers(scorer=scorer.name, samples=samples, scores=[scorer(sample.path) for sample in samples])


def gains_markdown(report: RealReport) -> str:
    """One table per view, with a row per scorer and a column per metric."""
    parts = [f"## {report.subject}, minus each other scorer on the same samples\n"]
    columns = [f"{metric}, {track}" for track, metric in COMPARED]
    for view in dict.fromkeys(gain.view for gain in report.gains):
        rows = [gain for gain in report.gains if gain.view == view]
        parts.append(f"### {view}, differences\n\n| minus | " + " | ".join(columns) + " |")
        parts.append("|---" + "|--:" * len(columns) + "|")
        for other in dict.fromkeys(gain.other for gain in rows):
            cells = {f"{row.metric}, {row.track}": _cell(row.gain) for row in rows if row.other == other}
            parts.append(f"| {other} | " + " | ".join(cells[column] for column in columns) + " |")
        parts.append("")
    parts.append(f"In brackets the 95 % interval ({ROUNDS} bootstrap rounds by group, both scorers drawn together).")
    return "\n".join(parts) + "\n"


def in_folds_markdown(report: RealReport) -> str:
    """One row per scorer and one column per view and metric, each value with the subject's gain beside it."""
    columns = dict.fromkeys((each.view, each.metric) for each in report.in_folds)
    cells = {
        (each.scorer, each.view, each.metric): f"{_value(each.value)}; {_cell(each.gain)}" for each in report.in_folds
    }
    lines = [
        "\n## Clips ranked against those of their own fold\n",
        "Students of different folds have scales of their own, and one student for all clips has one scale: only here "
        f"is its ranking compared with theirs fairly. Behind each value the gain of {report.subject}, paired.\n",
        "| scorer | " + " | ".join(f"{metric}, {view}" for view, metric in columns) + " |",
        "|---" + "|--:" * len(columns) + "|",
    ]
    names = dict.fromkeys(each.scorer for each in report.in_folds)
    rows = {name: [cells[name, view, metric] for view, metric in columns] for name in names}
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def _value(found: Measure) -> str:
    if found.value is None or found.lo is None or found.hi is None:
        return "-" if found.value is None else f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.lo:.2f}-{found.hi:.2f})"


def _cell(gain: Measure) -> str:
    if gain.value is None:
        return ""
    if gain.lo is None or gain.hi is None:
        return f"{gain.value:+.3f}"
    return f"{gain.value:+.3f} ({gain.lo:+.2f} to {gain.hi:+.2f})"


def named(text: str) -> tuple[str, Path]:
    """Split `NAME=PATH`. Raises `ConfigError`."""
    name, found, path = text.partition("=")
    if not found or not name or not path:
        raise ConfigError(f"expected NAME=PATH, found {text!r}")
    return name, Path(path)


def scorers_of(
    bundles: Sequence[str], folds: Sequence[str], clips: Sequence[LabelledClip], work: Path
) -> tuple[list[Scorer], dict[str, str]]:
    """Trivial scorers, then students, all caching their scores in `work`; and what identifies each student.

    Raises `ConfigError` for a bundle whose student was trained on some of `clips`.
    """
    scores = [_stored(work, each.name, each, f"{each.name} {VERSION}") for each in trivial_scorers()]
    students = {}
    for name, path in map(named, folds):
        of_folds = FoldScorer(path)
        identity = of_folds.identity()
        students[name] = f"folds of {path.name} {identity[:12]}"
        scores.append(_stored(work, name, of_folds, f"folds {identity} {_code()}"))
    for name, path in map(named, bundles):
        bundle = Bundle.open(path)
        refuse_seen(bundle, clips)
        students[name] = f"{bundle.manifest.name} {bundle.sha256[:12]}"
        scores.append(_stored(work, name, StudentScorer(bundle), f"bundle {bundle.sha256} {_code()}"))
    return scores, students


def _code() -> str:
    """Digest of the code between a clip and its scores, so that stored scores of other code are not reused."""
    package, runtime = Path(edge_sdk.__file__).parent, open_runtime(DEFAULT_RUNTIME).describe()
    files = [package / f"{name}.py" for name in ("analysis", "unit", "stream", "tensors")]
    for folder in ("capture", "perception", "events", "evaluation", "runtimes"):
        files += sorted((package / folder).rglob("*.py"))
    code = [file.read_bytes() for file in [*files, Path(_native.__file__)]]
    return hashlib.sha256(b"".join([*code, msgspec.json.encode(runtime)])).hexdigest()[:12]


def _stored(work: Path, name: str, ask: Callable[[Path], ClipScores], identity: str) -> Scorer:
    store = work / "scores" / f"{name.replace(' ', '-').replace(':', '')}.jsonl"
    return StoredScorer(name, store, ask, identity=identity)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `real-clips.json` and `real-clips.md`; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--folds", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--bundle", action="append", default=[], metavar="NAME=BUNDLE")
    parser.add_argument("--count", type=int, default=5, help="number of folds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    labelled = read_labels(chosen.clips / "labels.csv")
    folds = assign_folds(labelled, chosen.count)
    for _, path in map(named, chosen.folds):
        FoldScorer(path).check(labelled, folds)
    scorers, students = scorers_of(chosen.bundle, chosen.folds, labelled, chosen.work)
    if not students:
        parser.error("there is no student to judge: give --folds or --bundle")
    with Progress("real clips") as progress:
        prepared = prepared_samples(chosen.clips, chosen.work, chosen.count, chosen.seed, progress)
        samples = [sample for sample in prepared.samples if sample.track in TRACKS]
        found = evaluate(samples, scorers, seed=chosen.seed, progress=lambda stage, done, of: progress(done, of, stage))
    subject = next(scorer for scorer in scorers if scorer.name in students)
    others = [scorer for scorer in scorers if scorer is not subject]
    report = RealReport(
        date_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=commit(Path(__file__).parent),
        folds=chosen.count,
        students=students,
        subject=subject.name,
        evaluation=found,
        gains=tuple(gains_of(subject, others, samples, chosen.seed)),
        in_folds=tuple(in_folds(subject, scorers, samples, folds, chosen.seed)),
        reliability=reliability_of(subject, samples, folds, chosen.seed),
        skipped=prepared.skipped,
    )
    write_json(chosen.out / "real-clips.json", report, indent=1)
    draw_reliability(report.reliability, chosen.out / "real-clips-reliability.png")
    write_text(
        chosen.out / "real-clips.md", to_markdown(found) + "\n" + gains_markdown(report) + in_folds_markdown(report)
    )
    return 0


if __name__ == "__main__":
    run_script(main)
