"""The `edge-sdk VERB` command line; `app` describes it."""

from edge_sdk.cli.entry import main

__all__ = ["main"]
