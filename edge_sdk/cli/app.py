"""Recognise traffic crashes in video, localise them in time and explain them, on the device.

With `--json`, which every verb takes, the last line of stdout is one JSON document.
An error prints one line on stderr and no JSON, except what `analyze` had found by then.

Exit codes:
0 success;
1 bug in the SDK;
2 usage or configuration;
3 hardware or runtime missing, source unreadable, disk full or memory exhausted;
4 model or bundle;
5 degraded;
130 interrupted;
141 reader of the output gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sdk import __version__
from edge_sdk.cli.addresses import RedactingGroup, bundle_folder

app = typer.Typer(
    cls=RedactingGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
scenes_app = typer.Typer(no_args_is_help=True, help="Rendered traffic scenes with labels from physics.")
distil_app = typer.Typer(no_args_is_help=True, help="Train the models that run on the device.")
bundle_app = typer.Typer(
    no_args_is_help=True, help="Inspect, check, score or sign a bundle, or copy it with one part replaced."
)
bench_app = typer.Typer()
app.add_typer(scenes_app, name="scenes")
app.add_typer(distil_app, name="distil")
app.add_typer(bundle_app, name="bundle")
app.add_typer(bench_app, name="bench")

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", callback=bundle_folder, help="Bundle folder; default: the demo bundle."),
]
ExpectOption = Annotated[
    str | None,
    typer.Option("--expect", metavar="SHA256", help="Accept only the bundle with this digest (see `bundle show`)."),
]
TrustOption = Annotated[
    list[Path] | None,
    typer.Option("--trust", metavar="PEM", help="Accept only bundles signed with this public key; repeatable."),
]
RuntimeOption = Annotated[
    str, typer.Option(help="Inference runtime: ort, trt or rtx; null outputs zeros, to measure everything else.")
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Threads of the runtime; 0 lets the runtime choose.")]
DeviceOption = Annotated[str, typer.Option(help="Device of the runtime ort: cpu or cuda. Engines always use the GPU.")]
PointOption = Annotated[
    str | None, typer.Option("--operating-point", help="quiet, balanced or sensitive; default: the bundle's.")
]
TaskOption = Annotated[list[str] | None, typer.Option(help="Task to ask, of the six; repeatable; default: all.")]
ProfileOption = Annotated[str | None, typer.Option(help="Vision profile, such as 96f; default: most frames.")]
MemoryOption = Annotated[
    float | None, typer.Option(help="Memory limit of the reasoner's process, MB; default: 90 % of what is free.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """CrashChat Edge SDK."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
