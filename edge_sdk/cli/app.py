"""Recognise traffic crashes in video, localise them in time and explain them, on the device.

Every verb takes `--json`; then the last line of stdout is one JSON document. Exit codes: 0 ok, 1 our bug, 2 usage or
config, 3 hardware or runtime missing, a source that cannot be read, a full disk, or no memory left, 4 model or bundle,
5 degraded, 130 interrupted; an error is one line on stderr, and then there is no JSON, but for what `analyze` had found
before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sdk import __version__

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
scenes_app = typer.Typer(no_args_is_help=True, help="Rendered traffic scenes with labels from physics.")
distil_app = typer.Typer(no_args_is_help=True, help="Train the models that run on the device.")
bundle_app = typer.Typer(no_args_is_help=True, help="Look into a bundle, or copy it with another part.")
bench_app = typer.Typer()
app.add_typer(scenes_app, name="scenes")
app.add_typer(distil_app, name="distil")
app.add_typer(bundle_app, name="bundle")
app.add_typer(bench_app, name="bench")

BundleOption = Annotated[Path | None, typer.Option("--bundle", help="Bundle folder; the demo bundle by default.")]
ExpectOption = Annotated[
    str | None,
    typer.Option("--expect", metavar="SHA256", help="Open no bundle but this one, by the digest of `bundle show`."),
]
TrustOption = Annotated[
    list[Path] | None,
    typer.Option("--trust", metavar="PEM", help="Open only what this public key has signed; may be repeated."),
]
RuntimeOption = Annotated[
    str, typer.Option(help="Inference runtime: ort, trt, rtx; null gives zeros, to measure what is around it.")
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Threads of the runtime; 0 leaves it to the runtime.")]
DeviceOption = Annotated[str, typer.Option(help="Where the runtime ort computes: cpu, cuda. Engines are on the GPU.")]
PointOption = Annotated[
    str | None, typer.Option("--operating-point", help="quiet, balanced, sensitive; the bundle's default if not given.")
]
TaskOption = Annotated[list[str] | None, typer.Option(help="One of the six tasks; may be repeated; all by default.")]
ProfileOption = Annotated[str | None, typer.Option(help="Vision profile of the bundle, such as 96f.")]
MemoryOption = Annotated[float | None, typer.Option(help="Most memory of the reasoner's process, MB.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """CrashChat Edge SDK."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
