"""Compare a bundle with the checkpoint that it was exported from, stage by stage.

A bundle's own references were written by the export, which may be wrong. So everything is computed again from the
checkpoint, with inputs of another seed. Each stage is compared with the one before it, which shows where a fault was
made: the checkpoint with an adapter beside its weights, the adapter merged, the graphs as a runtime runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.engine.tensorrt_library import runtime_dialects
from edge_sdk.errors import BundleError, CheckpointError, ConfigError
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Checkpoint, Weights
from edge_sdk.export.export_recipe import BASE, adapter_folders
from edge_sdk.export.exported import Exported
from edge_sdk.export.layouts import EMBEDDING
from edge_sdk.export.measure import Measured, OnProgress, measure
from edge_sdk.export.references import SEED, TOLERANCES
from edge_sdk.files import write_json
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.registry import DEFAULT_RUNTIME
from edge_sdk.runtime import SessionOptions
from edge_sdk.types import Value
from edge_sdk.verify.answers import ChainCheck, check_chain, compare_answer
from edge_sdk.verify.graphs import GraphCase, OutputCheck, check_graph, check_outputs, why_unbuilt

# A merged weight is rounded once to the checkpoint's element type; bfloat16 gives 7e-3 with 2 layers of a tiny model.
MERGE_TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
# A value is rounded once, by at most half a unit of float16's last place.
TABLE_TOLERANCE = 1e-3
_BLOCK_ROWS = 8192

StageName = Literal["merged", "table", "exported"]

# Not the inputs that the bundle's own references were made with.
_OTHER_SEED = SEED + 1


class StageReport(Value, frozen=True, kw_only=True):
    """Comparison of one stage with the stage before it.

    `merged`: adapters merged into the weights, against the checkpoint with the adapters beside its weights, both in
    float32. `table`: the bundle's embedding table against the checkpoint's. `exported`: the bundle's graphs on a
    runtime, against the merged weights, or the checkpoint's, in float32. `not_built` are the graphs for which the
    runtime has no engine, with the reason.
    """

    stage: StageName
    ok: bool
    outputs: tuple[OutputCheck, ...] = ()
    answers: tuple[ChainCheck, ...] = ()
    not_built: dict[str, str] = msgspec.field(default_factory=dict)


class AgainstReport(Value, frozen=True, kw_only=True):
    """Comparisons of all stages of a bundle. `seed` is the seed of the inputs."""

    bundle: str
    bundle_sha256: str
    checkpoint: str
    adapters: dict[str, str]
    runtime: str
    dtype: str
    seed: int
    ok: bool
    stages: tuple[StageReport, ...]

    def __str__(self) -> str:
        rows = [_HEADINGS, *(row for stage in self.stages for row in _rows(stage))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"{name}: not compared, {why}" for stage in self.stages for name, why in stage.not_built.items()]
        verdict = "ok" if self.ok else "FAILED"
        return "\n".join([*lines, f"{self.bundle} on {self.runtime} against {self.checkpoint}: {verdict}"])


def verify_against(
    bundle: Bundle,
    checkpoint: Path,
    *,
    adapters: tuple[str, ...] = (),
    base_projector: bool = False,
    runtime: str = DEFAULT_RUNTIME,
    options: SessionOptions | None = None,
    out: Path | None = None,
    on_progress: OnProgress = lambda done, total, what: None,
) -> AgainstReport:
    """Compare every stage; `adapters` are written NAME=DIR, `out` is a file for the report as JSON.

    Raises `BundleError` for a bundle without a language model, with quantised weights, or that does not fit the
    checkpoint, `ConfigError` for adapters that are not the bundle's, `CheckpointError` for unusable weights, and what
    the runtime raises. A wrong output raises nothing: it is in the report.
    """
    weights = Checkpoint.open(checkpoint)
    language = _language(bundle, weights)
    folders = adapter_folders(adapters)
    _check_adapters(bundle, language, folders)
    opened = {name: Adapter.open(Path(folder), base_projector=base_projector) for name, folder in folders.items()}
    exported = Exported(bundle.folder, bundle.manifest.graphs, language, opened)
    stages, measured = _merged(weights, exported, _OTHER_SEED, on_progress)
    stages.append(_table(bundle, language, weights))
    stages.append(_exported(bundle, language, measured, runtime, options or SessionOptions()))
    report = AgainstReport(
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        checkpoint=str(checkpoint),
        adapters=folders,
        runtime=runtime,
        dtype=language.dtype,
        seed=_OTHER_SEED,
        ok=all(stage.ok for stage in stages),
        stages=tuple(stages),
    )
    if out:
        write_json(out, report)
    return report


def _language(bundle: Bundle, weights: Weights) -> Language:
    language, config = bundle.manifest.language, weights.config
    if language is None:
        raise BundleError(f"bundle {bundle.manifest.name!r} has no language model to compare with a checkpoint")
    if language.quantisation is not None:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} is in few bits ({language.quantisation.recipe}), so it cannot equal a "
            "checkpoint; compare the bundle in full weights, and check this one with its own references: "
            "edge-sdk verify without --against"
        )
    for part, sizes, found in (
        ("vision", language.vision, config.vision),
        ("decoder", language.decoder, config.text),
    ):
        for name in sizes.__struct_fields__:
            if getattr(sizes, name) != getattr(found, name):
                raise CheckpointError(
                    f"expected a checkpoint with {part} {name} {getattr(sizes, name)}, as bundle "
                    f"{bundle.manifest.name!r} has it, found {getattr(found, name)}; give the one it was exported from"
                )
    return language


def _check_adapters(bundle: Bundle, language: Language, adapters: Mapping[str, str]) -> None:
    needed = set(language.adapters) - {BASE}
    if needed != adapters.keys():
        raise ConfigError(
            f"bundle {bundle.manifest.name!r} has the adapters {', '.join(sorted(needed)) or 'none'}, given: "
            f"{', '.join(sorted(adapters)) or 'none'}; give --adapter NAME=DIR for each of its own"
        )


def _merged(
    weights: Weights, exported: Exported, seed: int, on_progress: OnProgress
) -> tuple[list[StageReport], Measured]:
    """The comparison of merging (empty where no adapter is merged), and the expected outputs of the graphs."""
    language = exported.language
    merged = [name for name in exported.adapters if not language.decoders[language.adapters[name].decoder].lora_rank]
    if not merged:
        return [], measure(weights, exported, seed, on_progress)
    beside = measure(weights, _switched(exported), seed, on_progress)
    tokens = {name: answer.case.tokens for name, answer in beside.answers.items()}
    measured = measure(weights, exported, seed, on_progress, tokens)
    tolerance = max(MERGE_TOLERANCES[weights.spec(name).dtype] for name in weights.names())
    outputs, answers = [], []
    for name in merged:
        graph = min(language.decoders[language.adapters[name].decoder].graphs, key=lambda each: each.slots).graph
        expected = GraphCase(inputs={}, outputs=beside.graphs[graph].outputs, max_relative_error=tolerance)
        outputs += check_outputs(f"decoder of {name}", measured.graphs[graph].outputs, expected)
        found = list(measured.answers[name].logits)
        answers.append(compare_answer(name, "merged weights", beside.answers[name].case, found, tolerance))
    return [_stage("merged", outputs, answers)], measured


def _switched(exported: Exported) -> Exported:
    """The export as if its adapters were LoRA inputs, so that they are applied beside the checkpoint's weights."""
    replace, language = msgspec.structs.replace, exported.language
    decoders = {name: replace(each, lora_rank=max(each.lora_rank, 1)) for name, each in language.decoders.items()}
    return Exported(exported.folder, exported.graphs, replace(language, decoders=decoders), exported.adapters)


def _table(bundle: Bundle, language: Language, weights: Weights) -> StageReport:
    table = EmbeddingTable.open(bundle.path(language.embedding.file), language.embedding)
    expected = weights.tensor(EMBEDDING)
    checks: list[OutputCheck] = []
    for start in range(0, len(expected), _BLOCK_ROWS):
        block = expected[start : start + _BLOCK_ROWS].float().numpy()
        found = table.rows(np.arange(start, start + len(block)))
        case = GraphCase(inputs={}, outputs={"rows": block}, max_relative_error=TABLE_TOLERANCE)
        checks += check_outputs("embedding", {"rows": found}, case)
    return _stage("table", [_worst(checks)], [])


def _exported(
    bundle: Bundle, language: Language, measured: Measured, runtime: str, options: SessionOptions
) -> StageReport:
    outputs: list[OutputCheck] = []
    answers: list[ChainCheck] = []
    unbuilt: dict[str, str] = {}
    dialects = runtime_dialects(runtime)
    for name, values in sorted(measured.graphs.items()):
        if not set(dialects) & set(bundle.manifest.graphs[name].dialects):
            continue
        if why := why_unbuilt(bundle, name, runtime, options):
            unbuilt[name] = why
            continue
        case = GraphCase(
            inputs=values.inputs,
            outputs=values.outputs,
            inputs_from=values.inputs_from,
            max_relative_error=TOLERANCES[language.dtype],
        )
        outputs += check_graph(bundle, name, case, runtime, options)
    for name, answer in sorted(measured.answers.items()):
        limit = TOLERANCES[language.dtype]
        answers += check_chain(bundle, name, answer.case, answer.profile, limit, runtime, options, dialects, unbuilt)
    return msgspec.structs.replace(_stage("exported", outputs, answers), not_built=unbuilt)


def _stage(stage: StageName, outputs: list[OutputCheck], answers: list[ChainCheck]) -> StageReport:
    ok = bool(outputs or answers) and all(each.ok for each in outputs) and all(each.ok for each in answers)
    return StageReport(stage=stage, ok=ok, outputs=tuple(outputs), answers=tuple(answers))


def _worst(checks: list[OutputCheck]) -> OutputCheck:
    return max(checks, key=lambda check: np.inf if check.relative_error is None else check.relative_error)


_HEADINGS = ("stage", "what", "error", "allowed", "cosine", "tokens", "")


def _rows(stage: StageReport) -> Iterator[tuple[str, ...]]:
    for check in stage.outputs:
        yield (stage.stage, f"{check.graph}/{check.output}", *_numbers(check), "", _verdict(check))
    for answer in stage.answers:
        tokens = f"{answer.equal_tokens}+{answer.near_ties}/{answer.steps}"
        yield (stage.stage, f"{answer.adapter} by {answer.graph}", *_numbers(answer), tokens, _verdict(answer))


def _numbers(check: OutputCheck | ChainCheck) -> tuple[str, str, str]:
    error = "" if check.relative_error is None else f"{check.relative_error:.2e}"
    cosine = "" if check.cosine is None else f"{check.cosine:.7f}"
    return error, f"{check.max_relative_error:g}", cosine


def _verdict(check: OutputCheck | ChainCheck) -> str:
    return "ok" if check.ok else f"FAILED {check.problem or ''}".rstrip()
