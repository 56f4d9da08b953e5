"""Which bundle may be opened: the one with a given digest, or one that a trusted key has signed.

A manifest vouches for the files beside it, but not for itself: whoever can write a bundle can write its manifest. What
identifies the right bundle must therefore reach the device another way, as a digest or a public key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_sdk.bundle.manifest_text import SIGNATURE_NAME
from edge_sdk.errors import BundleError, ConfigError

if TYPE_CHECKING:  # importing it loads `cryptography`, which is heavy and optional
    from edge_sdk.bundle.keys import PublicKeys

KeyFiles = str | Path | Sequence[str | Path]

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class Pins(NamedTuple):
    """Requirements that a bundle must meet to be opened; None for one that was not set."""

    expect: str | None
    trust: PublicKeys | None

    @classmethod
    def of(cls, expect: str | None, trust: KeyFiles | None) -> Pins:
        """Make pins from a digest in hexadecimal, and from PEM files with public keys, one of which must have signed.

        Raises `ConfigError` for an incomplete digest, for a file that is not an Ed25519 public key, and for an empty
        list of keys, which would otherwise check nothing; `MissingDependencyError` for keys without `cryptography`.
        """
        if expect is not None and not _DIGEST.fullmatch(expect):
            raise ConfigError(
                "`expect` takes the SHA-256 of a bundle, 64 hexadecimal digits as `edge-sdk bundle show` prints them, "
                f"found {expect!r}; give all of them"
            )
        return cls(None if expect is None else expect.lower(), None if trust is None else _public_keys(trust))

    @property
    def given(self) -> bool:
        """Whether any requirement was set."""
        return self.expect is not None or self.trust is not None

    def check(self, folder: Path, manifest: bytes, sha256: str) -> None:
        """Raise `BundleError` unless the manifest in `folder`, with the digest `sha256`, meets the requirements."""
        if self.expect is not None and sha256 != self.expect:
            raise BundleError(
                f"{folder}: expected the bundle of SHA-256 {self.expect}, found the one of {sha256}; put the expected "
                "one there, or give the digest that `edge-sdk bundle show` prints where the bundle was made"
            )
        if self.trust is None:
            return
        signature = folder / SIGNATURE_NAME
        if signature.is_symlink() or not signature.is_file():
            raise BundleError(
                f"{folder}: expected a bundle signed by {self.trust}, found no file {SIGNATURE_NAME}; fetch the bundle "
                "again with it, or sign it with `edge-sdk bundle sign` where it was made"
            )
        if not self.trust.signed(manifest, signature):
            raise BundleError(
                f"{folder}: expected {SIGNATURE_NAME} to be the signature of this manifest by {self.trust}, found one "
                "by another key or of another manifest; fetch the bundle again from its signer, or trust that key"
            )


def _public_keys(trust: KeyFiles) -> PublicKeys:
    paths = [trust] if isinstance(trust, str | Path) else list(trust)
    if not paths:
        raise ConfigError("`trust` takes PEM files with public keys, found an empty list; give one, or leave it out")
    from edge_sdk.bundle.keys import PublicKeys

    return PublicKeys([Path(path) for path in paths])
