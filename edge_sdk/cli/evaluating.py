"""`edge-sdk evaluate`: score the six tasks beside the paper's table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge_sdk.cli.app import BundleOption, JsonOption, app
from edge_sdk.cli.options import refuse_stray
from edge_sdk.console import say
from edge_sdk.errors import ConfigError
from edge_sdk.registry import DEFAULT_RUNTIME


@app.command()
def evaluate(
    annotations: Annotated[Path, typer.Option(help="CrashChat annotations: a file, or a folder of *.json.")],
    predictions: Annotated[
        Path | None, typer.Option(help="JSON file with a model's answers by video and task.")
    ] = None,
    clips: Annotated[Path | None, typer.Option(help="Folder of annotated clips, for the bundle to answer.")] = None,
    bundle: BundleOption = None,
    runtime: Annotated[str | None, typer.Option(help="With --clips: ort, trt, rtx or null; default: ort.")] = None,
    device: Annotated[str | None, typer.Option(help="With --clips and ort: cpu or cuda; default: cpu.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=0, help="With --clips: threads of the runtime; default: 1.")
    ] = None,
    out_predictions: Annotated[
        Path | None, typer.Option(help="With --clips: file for the answers; a stopped run resumes from it.")
    ] = None,
    constants_from: Annotated[Path | None, typer.Option(help="Annotations for choosing the blind answers.")] = None,
    records: Annotated[Path | None, typer.Option(help="Folder of scene records: adds rows by condition.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Bootstrap rounds; 0 gives no intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Bootstrap seed, 0 or more.")] = 0,
    json: JsonOption = False,
) -> None:
    """Score answers to the six tasks, beside the paper's table and the best blind answers.

    Give either a model's answers (`--predictions`) or clips for the bundle to answer (`--clips`).
    """
    from edge_sdk.evaluation.tasks import TasksReport, evaluate_files, to_markdown

    report: TasksReport
    if predictions is not None and clips is None:
        asking = {"--bundle": bundle, "--runtime": runtime, "--device": device, "--threads": threads}
        refuse_stray(f"{predictions} holds answers already", {**asking, "--out-predictions": out_predictions})
        report = evaluate_files(
            annotations, predictions, constants_from=constants_from, records=records, bootstrap=bootstrap, seed=seed
        )
    elif clips is not None and predictions is None:
        from edge_sdk.explaining import ReasonerSettings
        from edge_sdk.toolchain.evaluating import evaluate_clips

        own_threads = 1 if threads is None else threads
        report = evaluate_clips(
            annotations,
            clips,
            bundle,
            out=out_predictions,
            settings=ReasonerSettings(runtime=runtime or DEFAULT_RUNTIME, device=device or "cpu", threads=own_threads),
            constants_from=constants_from,
            records=records,
            bootstrap=bootstrap,
            seed=seed,
            quiet=json,
        )
    else:
        raise ConfigError(
            "expected either --predictions, a file of a model's answers, or --clips, a folder of clips that the bundle "
            f"answers; found {'neither' if clips is None else 'both'}"
        )
    say(msgspec.json.encode(report).decode() if json else to_markdown(report))
