"""Sign bundles: write the signature of a manifest to a file beside it.

Importing this module raises `MissingDependencyError` without `cryptography`.
"""

from __future__ import annotations

from pathlib import Path

from edge_sdk.bundle.folder import Bundle
from edge_sdk.bundle.keys import PrivateKey
from edge_sdk.bundle.manifest_text import SIGNATURE_NAME, read_manifest
from edge_sdk.errors import BundleError
from edge_sdk.files import write_bytes


def sign_bundle(folder: str | Path, key: Path) -> Bundle:
    """Check the bundle, write the signature of its manifest beside it, replacing any earlier one, and return it.

    `key` is a PEM file with an Ed25519 private key without a password. Raises `ConfigError` for any other key, and what
    `Bundle.open` raises.
    """
    private = PrivateKey(key)
    bundle = Bundle.open(folder)

    def sign(manifest: bytes, sha256: str) -> None:
        if sha256 != bundle.sha256:
            raise BundleError(f"{bundle.folder}: the manifest has changed while it was signed; sign it again")
        write_bytes(bundle.folder / SIGNATURE_NAME, private.sign(manifest))

    read_manifest(bundle.folder, sign)
    return bundle
