"""The verbs of `edge-sdk bundle`: show, score, check and sign a bundle, or copy it with one part replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge_sdk.cli.app import BundleOption, ExpectOption, JsonOption, RuntimeOption, TrustOption, bundle_app
from edge_sdk.console import Progress, say


@bundle_app.command("show")
def bundle_show(
    bundle: BundleOption = None,
    picture: Annotated[Path | None, typer.Option(help="PNG to write: quantisation error per layer.")] = None,
    json: JsonOption = False,
) -> None:
    """Print what the bundle holds, and what quantisation cost it."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.cli.bundle_text import describe as describe_bundle

    opened = open_bundle(bundle)
    if picture:
        from edge_sdk.bundle.proof import require_evidence
        from edge_sdk.picture import draw_errors

        draw_errors(require_evidence(opened), picture)
    say(msgspec.json.encode(opened.manifest).decode() if json else "\n".join(describe_bundle(opened)))


@bundle_app.command("score")
def bundle_score(
    clips: Annotated[Path, typer.Option(help="Folder of scenes with truths, never used in training.")],
    before: Annotated[Path, typer.Option(help="Unquantised bundle of the same checkpoint.")],
    bundle: BundleOption = None,
    count: Annotated[int | None, typer.Option(min=1, help="Maximum number of scenes; default: all.")] = None,
    runtime: RuntimeOption = "ort",
    float_products: Annotated[
        bool, typer.Option(help="Multiply in floats, as engines do; otherwise ort on a CPU rounds inputs to 8 bits.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Score the six tasks before and after quantisation, and add the table to the bundle."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.bundle.proof import score_lines
    from edge_sdk.runtime import SessionOptions
    from edge_sdk.toolchain.scoring import add_scores

    options = SessionOptions(threads=1, float_products=float_products)

    with Progress("clips", quiet=json) as progress:
        found = add_scores(
            open_bundle(bundle),
            open_bundle(before),
            clips,
            count=count,
            runtime=runtime,
            options=options,
            on_clip=progress,
        )
    say(msgspec.json.encode(found).decode() if json else "\n".join(score_lines(found)))


@bundle_app.command("check")
def bundle_check(
    bundle: BundleOption = None, expect: ExpectOption = None, trust: TrustOption = None, json: JsonOption = False
) -> None:
    """Check every file of the bundle against its manifest."""
    from edge_sdk.bundle import open_bundle

    opened = open_bundle(bundle, expect=expect, trust=trust)
    found = {"ok": True, "name": opened.manifest.name, "sha256": opened.sha256, "files": len(opened.manifest.files)}
    say(msgspec.json.encode(found).decode() if json else f"ok: {opened.manifest.name}, {found['files']} files")


@bundle_app.command("sign")
def bundle_sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    key: Annotated[Path, typer.Option(help="PEM file with an Ed25519 private key, not encrypted.")],
    json: JsonOption = False,
) -> None:
    """Check the bundle and add a signature of its manifest, which `--trust` verifies on a device."""
    from edge_sdk.bundle.manifest_text import SIGNATURE_NAME
    from edge_sdk.bundle.signing import sign_bundle

    signed = sign_bundle(bundle, key)
    found = {"bundle": str(bundle), "sha256": signed.sha256, "signature": SIGNATURE_NAME}
    say(msgspec.json.encode(found).decode() if json else f"bundle {bundle}: {SIGNATURE_NAME} signs {signed.sha256}")


@bundle_app.command("demo")
def bundle_demo(
    clip: Annotated[Path, typer.Argument(help="Rendered clip, with its record (*.json) beside it.")],
    out: Path,
    bundle: BundleOption = None,
    json: JsonOption = False,
) -> None:
    """Copy the bundle to OUT, with CLIP as the clip that `edge-sdk demo` shows."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.bundle.demo_clip import with_demo

    made = with_demo(open_bundle(bundle), clip, out)
    found = {"bundle": str(out), "sha256": made.sha256, "clip": clip.name}
    say(msgspec.json.encode(found).decode() if json else f"bundle {out}: its demo is {clip.name}")


@bundle_app.command("student")
def bundle_student(
    student: Annotated[Path, typer.Argument(help="Folder of the bundle with the tuned or quantised student.")],
    out: Path,
    bundle: BundleOption = None,
    json: JsonOption = False,
) -> None:
    """Copy a bundle that has a video LLM to OUT, with the student of bundle STUDENT; no checkpoint is needed."""
    from edge_sdk.bundle import open_bundle
    from edge_sdk.bundle.student_part import with_student
    from edge_sdk.toolchain.cautions import warn_of_answers

    made = with_student(open_bundle(bundle), student, out)
    warn_of_answers(made)
    found = {"bundle": str(out), "sha256": made.sha256, "student": str(student)}
    say(msgspec.json.encode(found).decode() if json else f"bundle {out}: its student is that of {student}")
