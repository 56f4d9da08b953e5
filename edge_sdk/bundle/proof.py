"""The measured cost of quantisation, stored in the bundle.

`quantise/evidence.json` and `quantise/scores.json` are about the video LLM, `quantise/student.json` about the student.

Each names the files that it was measured on, with their hashes, so that a proof is never taken to be about other
weights. The activation statistics of a calibration lie beside them, see `bundle.activations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

import msgspec

from edge_sdk.bundle.activations import describe as describe_activations
from edge_sdk.bundle.activations import read_activations
from edge_sdk.bundle.folder import Bundle
from edge_sdk.bundle.student_proof import STUDENT, StudentEvidence, student_lines
from edge_sdk.errors import BundleError
from edge_sdk.types import Value

EVIDENCE, SCORES = "quantise/evidence.json", "quantise/scores.json"
VISION = "vision"
"""Stands for the vision tower where a matrix of a decoder has that decoder's name."""
_WORST = 5
V = TypeVar("V", bound=Value)
Compared = Literal["answers", "questions"]


class MatrixError(Value, frozen=True, kw_only=True):
    """The error of one matrix of a decoder or of the vision tower: root mean square, relative to that of exact values.

    `weight_error` is that of the weights, `output_error` that of the products on the calibration set, None without one.
    """

    decoder: str
    name: str
    bits: int
    block: int
    weight_error: float
    output_error: float | None


class AnswerChange(Value, frozen=True, kw_only=True):
    """A comparison of next-token distributions: the steps, how many have the same likeliest token, and KL divergence.

    KL is that of the quantised model from the exact one, in nats per token: the mean over steps, and the largest.
    """

    steps: int
    equal_tokens: int
    mean_kl: float
    largest_kl: float


class TowerError(Value, frozen=True, kw_only=True):
    """The error of the quantised vision tower on the frames of clips that a calibration has kept.

    Errors are root mean squares relative to those of the tower in full weights: `tokens` is that of the tokens that the
    tower outputs, `embeds` that of the rows that each adapter's unquantised projector makes of them.
    """

    clips: int
    frames: int
    tokens: float
    embeds: dict[str, float]


class ProbeChange(Value, frozen=True, kw_only=True):
    """The change of one decoder on clips that a calibration has kept.

    `held_out` is true if the calibration's statistics have not seen the clips. If `tower` is true, one side gets the
    tokens of the stored vision tower and the other those of the tower in full weights; otherwise both get the latter.
    `rows` says what is compared: the tokens of the answers that the model gives in full weights or, if the calibration
    has kept none, the last tokens of every question. Those are the prompt's, except the one after its end.
    """

    clips: int
    held_out: bool
    tower: bool = False
    rows: Compared = "questions"
    change: AnswerChange


class LinearCost(Value, frozen=True, kw_only=True):
    """The cost of quantising one linear alone.

    `errors` are relative root mean square errors of its layer's contribution, by bits. `kl` is its share of the layer's
    KL, in proportion to the squared errors.
    """

    kl: float
    errors: dict[int, float]


class LayerCost(Value, frozen=True, kw_only=True):
    """The cost of quantising one layer alone: the mean KL divergence of the logits, and the share of each linear."""

    layer: int
    kl: float
    linears: dict[str, LinearCost]


class Sensitivity(Value, frozen=True, kw_only=True):
    """The cost of quantising one decoder: each layer alone, the head alone, the vision tower alone, and all together.

    `tower_kl` is 0 if the tower is not quantised.
    """

    decoder: str
    layers: tuple[LayerCost, ...]
    head_kl: float
    tower_kl: float = 0.0
    together: AnswerChange


class Kept(Value, frozen=True, kw_only=True):
    """A matrix that is kept in more bits, which costs `more_mb` (10^6 bytes), and why."""

    name: str
    bits: int
    more_mb: float
    reason: str


class Choice(Value, frozen=True, kw_only=True):
    """The matrices kept in more bits under a limit. Sizes are those of the decoders' files in 10^6 bytes.

    `expected_kl` is the sum of the parts. `measured_kl` is measured for the whole on the same clips, with the matrices
    in more bits rounded to nearest.
    """

    max_kl: float | None
    budget_mb: float | None
    lowest_mb: float
    lowest_kl: float
    size_mb: float
    expected_kl: float
    measured_kl: float
    kept: tuple[Kept, ...]


class Recovered(Value, frozen=True, kw_only=True):
    """One adapter whose LoRA inputs were trained further beside the quantised base, on the exact model's answers.

    Each of `steps` took `batch` of `clips`, drawn by `seed`; `rate` is the highest learning rate. `before` and `after`
    compare the quantised base with the adapter as it was and as trained, on answers about `kept_out` more clips.
    `taken` is true if training made it better, and the trained adapter is in the bundle.
    """

    clips: int
    kept_out: int
    steps: int
    batch: int
    rate: float
    seed: int
    before: AnswerChange
    after: AnswerChange
    taken: bool


class Evidence(Value, frozen=True, kw_only=True):
    """The whole of `quantise/evidence.json`.

    `graphs` are relative errors, max |a - b| / max |b|: of the logits and, if the vision tower is quantised, also of
    its tokens and of the rows that projectors make of them.
    `answers` are changes on the reference clip by adapter, and `probes` changes on the calibration's clips by decoder.
    `tower` is the error of the vision tower on those clips, None if it is not quantised or their frames were not kept.
    `recovered` holds the adapters that were trained further beside the decoder. `files` are the SHA-256 of the measured
    weights by path, and `device` is what computed them and the probes.
    """

    matrices: tuple[MatrixError, ...]
    graphs: dict[str, float]
    answers: dict[str, AnswerChange]
    probes: dict[str, ProbeChange] = msgspec.field(default_factory=dict)
    tower: TowerError | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    choice: Choice | None = None
    recovered: dict[str, Recovered] = msgspec.field(default_factory=dict)
    files: dict[str, str] = msgspec.field(default_factory=dict)
    device: str = "cpu"


class ScoreChange(Value, frozen=True, kw_only=True):
    """One score of one task by two bundles, None if it has no value."""

    task: str
    score: str
    before: float | None
    after: float | None


class Scores(Value, frozen=True, kw_only=True):
    """The whole of `quantise/scores.json`: the six tasks by this bundle and by one in full weights, on the same clips.

    `equal_answers` of `answers` are the same word for word. `clips_sha256` identifies the clips, in order of names.
    `float_products` is true if quantised weights were multiplied in floats, as engines do, not in the runtime's faster
    way.
    """

    before: str
    before_sha256: str
    clips: int
    clips_sha256: str
    answers: int
    equal_answers: int
    rows: tuple[ScoreChange, ...]
    files: dict[str, str]
    float_products: bool = False


class Proof(Value, frozen=True, kw_only=True):
    """Everything that a bundle tells of quantisation, None for parts that it lacks.

    `problems` name measured files that are missing from the bundle or differ from those in it. `activations` is one
    line about the calibration's statistics.
    """

    evidence: Evidence | None
    scores: Scores | None
    problems: tuple[str, ...]
    activations: str | None = None
    student: StudentEvidence | None = None


def read_proof(bundle: Bundle) -> Proof | None:
    """Read the proof in a bundle, None for full weights. Raises `BundleError` for a file that cannot be read."""
    language, held = bundle.manifest.language, bundle.manifest.files
    few = language.quantisation if language else None
    if few is None and STUDENT not in held:
        return None
    named = few.evidence if few else None
    evidence = _read(bundle, named, Evidence) if named else None
    scores = _read(bundle, SCORES, Scores) if few and SCORES in held else None
    student = _read(bundle, STUDENT, StudentEvidence) if STUDENT in held else None
    measured = [(named, evidence.files)] if evidence else []
    measured += [(SCORES, scores.files)] if scores else []
    measured += [(STUDENT, student.files)] if student else []
    problems = [f"{where}: {each}" for where, files in measured for each in _misfits(bundle, files)]
    seen = read_activations(bundle)
    return Proof(
        evidence=evidence,
        scores=scores,
        problems=tuple(problems),
        activations=describe_activations(seen) if seen else None,
        student=student,
    )


def require_evidence(bundle: Bundle) -> Evidence:
    """Return the evidence in a bundle. Raises `BundleError` if it has none."""
    proof = read_proof(bundle)
    if proof is None or proof.evidence is None:
        raise BundleError(
            f"{bundle.manifest.name}: expected proofs of edge-sdk quantise, found none; give a bundle that it wrote"
        )
    return proof.evidence


def describe(proof: Proof) -> Iterator[str]:
    """Describe a proof in lines for people."""
    if proof.evidence:
        yield from _evidence_lines(proof.evidence)
    if proof.activations:
        yield f"proof: {proof.activations}"
    if proof.scores:
        yield from score_lines(proof.scores)
    if proof.student:
        yield from student_lines(proof.student)
    yield from (f"proof: {problem}" for problem in proof.problems)


def _evidence_lines(found: Evidence) -> Iterator[str]:
    for name, error in found.graphs.items():
        yield f"proof: graph {name}: off by {error:.3g} of its largest value"
    for name, answer in found.answers.items():
        yield f"proof: answer of {name}: {_change(answer)}"
    for name, each in found.probes.items():
        seen = "held out of" if each.held_out else "seen by"
        tower = ", from the stored tower's tokens on" if each.tower else ""
        rows = "tokens of answers" if each.rows == "answers" else "last tokens of questions"
        clips = f"{each.clips} clips {seen} the calibration{tower}"
        yield f"proof: decoder {name}, {rows} of {clips}: {_change(each.change)}"
    for name, lora in found.recovered.items():
        yield f"proof: LoRA of {name} {_recovery(lora)}"
    if found.tower:
        yield from _tower_lines(found.tower)
    worst = sorted(found.matrices, key=lambda each: each.output_error or each.weight_error, reverse=True)[:_WORST]
    for matrix in worst:
        what = "weights" if matrix.output_error is None else "products"
        error = matrix.weight_error if matrix.output_error is None else matrix.output_error
        yield f"proof: {matrix.name} in {matrix.bits} bits: {what} off by {100 * error:.1f} %"
    if found.choice:
        yield from choice_lines(found.choice)


def _tower_lines(found: TowerError) -> Iterator[str]:
    yield (
        f"proof: vision tower on {found.frames} frames of {found.clips} clips: tokens off by {100 * found.tokens:.1f} %"
    )
    for name, error in found.embeds.items():
        yield f"proof: projector {name} from there: off by {100 * error:.1f} %"


def choice_lines(choice: Choice) -> Iterator[str]:
    """Describe a choice in lines for people."""
    limits = [f"KL <= {choice.max_kl:g}"] if choice.max_kl is not None else []
    limits += [f"<= {choice.budget_mb:,.1f} MB"] if choice.budget_mb is not None else []
    yield (
        f"choice for {' and '.join(limits)}: {choice.size_mb:,.1f} MB with KL {choice.measured_kl:.3g}, "
        f"from {choice.lowest_mb:,.1f} MB with {choice.lowest_kl:.3g}"
    )
    yield from (f"  {kept.name}: {kept.reason}" for kept in choice.kept)


def score_lines(scores: Scores) -> Iterator[str]:
    """Describe scores in lines for people."""
    yield (
        f"scores on {scores.clips} clips beside {scores.before}: {scores.equal_answers} of {scores.answers} answers "
        f"word for word the same, products {'in floats' if scores.float_products else 'as the runtime makes them'}"
    )
    for row in scores.rows:
        before, after = ("-" if each is None else f"{each:.3f}" for each in (row.before, row.after))
        yield f"  {row.task:16}{row.score:18}{before:>8} ->{after:>8}"


def _change(found: AnswerChange) -> str:
    return f"KL {found.mean_kl:.3g} a token, {found.equal_tokens} of {found.steps} tokens equal"


def _recovery(found: Recovered) -> str:
    taken = "trained on" if found.taken else "as it was, training on made it no better:"
    return (
        f"{taken} beside the few bits, {found.steps} steps of {found.batch} of {found.clips} clips: on answers to "
        f"{found.kept_out} more KL {found.before.mean_kl:.3g} -> {found.after.mean_kl:.3g} a token, equal tokens "
        f"{found.before.equal_tokens} -> {found.after.equal_tokens} of {found.after.steps}"
    )


def _misfits(bundle: Bundle, files: Mapping[str, str]) -> Iterator[str]:
    for path, sha256 in files.items():
        entry = bundle.manifest.files.get(path)
        if entry is None or entry.sha256 != sha256:
            found = "is not in the bundle" if entry is None else f"has SHA-256 {entry.sha256[:12]}"
            yield f"was measured on {path} of SHA-256 {sha256[:12]}, which {found}; quantise or score again"


def _read(bundle: Bundle, path: str, kind: type[V]) -> V:
    try:
        return msgspec.json.decode(bundle.path(path).read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise BundleError(f"{path}: expected a proof as edge-sdk quantise writes it, found {error}") from error
