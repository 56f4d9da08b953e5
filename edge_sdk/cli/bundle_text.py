"""Describe what a bundle holds, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.bundle.folder import Bundle
from edge_sdk.bundle.manifest import FalseAlarms, Manifest, Student
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.bundle.proof import describe as describe_proof
from edge_sdk.bundle.proof import read_proof
from edge_sdk.events import calibrate
from edge_sdk.hardware.predicted import describe as describe_predicted
from edge_sdk.hardware.predicted import describe_student, predict, predict_student
from edge_sdk.perception.operating import points_of

_MB = 1e6


def describe(bundle: Bundle) -> Iterator[str]:
    """Describe the bundle, its graphs, its student and language components, its proof and its files.

    Characters that a terminal would obey rather than show, such as codes that move the cursor, are escaped.
    """
    return map(_visible, _lines(bundle))


def _visible(line: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


def _lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    yield f"{manifest.name} {manifest.version}, made {manifest.created_utc}, sha256 {bundle.sha256}"
    for name, graph in manifest.graphs.items():
        read = "/".join(graph.dialects) or "for ONNX Runtime on a CPU"
        yield f"graph {name}: {graph.file}, opset {graph.opset}, {read}, {len(graph.state)} states"
    if manifest.student:
        yield from _points(manifest.student)
    if manifest.language:
        yield from _language(manifest.language, manifest)
    if proof := read_proof(bundle):
        yield from describe_proof(proof)
        yield from describe_predicted(predict(bundle))
        yield from describe_student(predict_student(bundle, proof))
    for path, entry in sorted(manifest.files.items()):
        yield f"{entry.size_bytes:>10}  {entry.sha256[:12]}  {path}"


def _points(student: Student) -> Iterator[str]:
    for name, point in points_of(student).items():
        default = ", the default" if point is student.operating_point else ""
        level = f"a raw score of {point.confirm:.3f} over {point.confirm_frames} frames"
        level += f", a probability of {calibrate(point.confirm, point):.2f}" if point.calibrated else ""
        line = f"operating point {name}{default}: confirmed at {level}"
        found = point.false_alarms
        if isinstance(found, FalseAlarms):
            budget = "" if found.budget_per_hour is None else f" for a budget of {found.budget_per_hour:g} per hour"
            bounded = found.held_out and found.upper_per_hour is not None
            upper = f", at most {found.upper_per_hour:.1f} per hour (95 %)" if bounded else ""
            where = "held out" if found.held_out else "that it was fitted on"
            line += f"{budget}: {found.alarms} false alarms in {found.hours * 60:.0f} ordinary minutes {where}{upper}"
        yield line


def _language(language: Language, manifest: Manifest) -> Iterator[str]:
    sizes = language.decoder
    size = sum(entry.size_bytes for path, entry in manifest.files.items() if path.startswith("language/"))
    yield (
        f"language {language.model}: {language.dtype}, {size / _MB:,.0f} MB, {sizes.layers} layers of {sizes.hidden}, "
        f"{'tokens of unchanged windows are dropped' if language.compression else 'every token is kept'}"
    )
    for name, profile in language.profiles.items():
        tokens = profile.frames * profile.width * profile.height // (2 * language.patch) ** 2
        yield (
            f"  profile {name}: {profile.frames} frames of {profile.width}x{profile.height} at {profile.rate_hz:g} Hz, "
            f"{tokens:,} tokens"
        )
    for name, decoder in language.decoders.items():
        slots = ", ".join(f"{count:,}" for count in sorted({graph.slots for graph in decoder.graphs}))
        lora = f", LoRA inputs of rank {decoder.lora_rank}" if decoder.lora_rank else ""
        yield f"  decoder {name}: {slots} slots{lora}"
    for name, adapter in language.adapters.items():
        how = "switchable" if adapter.lora else "in the weights"
        yield f"  adapter {name}: decoder {adapter.decoder}, {how}, answers {', '.join(adapter.tasks)}"
