"""The `edge-sdk` command: register every verb, and turn errors into exit codes."""

from __future__ import annotations

from edge_sdk.cli import bundles, device, evaluating, learning, models  # noqa: F401 - they give the app its verbs
from edge_sdk.cli.app import app
from edge_sdk.console import exit_codes


def main() -> None:
    """Run the `edge-sdk` command."""
    with exit_codes("edge-sdk"):
        app()
