"""Check a runtime on this machine against a bundle's reference outputs, graph by graph and answer by answer."""

from edge_sdk.verify.bundles import VerifyReport, require, verify

__all__ = ["VerifyReport", "require", "verify"]
