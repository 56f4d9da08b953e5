"""Which bundle may be opened: the one of a digest, or one that a key has signed which is trusted.

A manifest vouches for the files beside it and for nothing else: whoever may write a bundle may write its manifest. What
tells one bundle from another must come by another way, as a digest or a public key that the device was given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_sdk.bundle.manifest_text import SIGNATURE_NAME
from edge_sdk.errors import BundleError, ConfigError

if TYPE_CHECKING:  # it loads a heavy package
    from edge_sdk.bundle.keys import PublicKeys

KeyFiles = str | Path | Sequence[str | Path]

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class Pins(NamedTuple):
    """What a bundle must be to be opened; None where that was not asked."""

    expect: str | None
    trust: PublicKeys | None

    @classmethod
    def of(cls, expect: str | None, trust: KeyFiles | None) -> Pins:
        """The pins of a digest in hexadecimal, and of PEM files with public keys of which one is enough.

        Raises `ConfigError` for what is no whole digest, no Ed25519 public key, or no key at all, which would otherwise
        pass for a check that was not asked for; `MissingDependencyError` for keys without `cryptography`.
        """
        if expect is not None and not _DIGEST.fullmatch(expect):
            raise ConfigError(
                "`expect` takes the SHA-256 of a bundle, 64 hexadecimal digits as `edge-sdk bundle show` prints them, "
                f"found {expect!r}; give all of them"
            )
        return cls(None if expect is None else expect.lower(), None if trust is None else _public_keys(trust))

    @property
    def given(self) -> bool:
        """Whether anything was asked."""
        return self.expect is not None or self.trust is not None

    def check(self, folder: Path, manifest: bytes, sha256: str) -> None:
        """Raises `BundleError` unless the manifest's bytes in `folder`, of the digest `sha256`, are what was asked."""
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
                "by another key or of another manifest; fetch the bundle again from who signs it, or trust that key"
            )


def _public_keys(trust: KeyFiles) -> PublicKeys:
    paths = [trust] if isinstance(trust, str | Path) else list(trust)
    if not paths:
        raise ConfigError("`trust` takes PEM files with public keys, found an empty list; give one, or leave it out")
    from edge_sdk.bundle.keys import PublicKeys

    return PublicKeys([Path(path) for path in paths])
