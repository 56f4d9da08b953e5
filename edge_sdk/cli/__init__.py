"""`edge-sdk VERB`; see `app`."""

from edge_sdk.cli.entry import main

__all__ = ["main"]
