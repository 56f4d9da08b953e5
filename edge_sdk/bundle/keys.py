"""Ed25519 keys that sign manifests and verify signatures; the only module that uses `cryptography`.

A signature covers `CONTEXT`, followed by the exact bytes of the manifest, which vouches for all other files. `CONTEXT`
keeps the signature from being valid for anything else that the same key signs. Importing this module without
`cryptography` raises `MissingDependencyError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import ConfigError, MissingDependencyError
from edge_sdk.packages import missing

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
except ImportError as error:
    raise MissingDependencyError(missing("cryptography", "sign")) from error

CONTEXT = b"CrashChat Edge SDK bundle manifest 1\n"
SIGNATURE_BYTES = 64


class PublicKeys:
    """Public keys, any one of which may have signed; `str` gives the names of their files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read PEM files. Raises `ConfigError` for one that cannot be read or is not an Ed25519 public key."""
        self._names = ", ".join(map(str, paths))
        self._keys = [_public_key(path) for path in paths]

    def __str__(self) -> str:
        return self._names

    def signed(self, manifest: bytes, signature: Path) -> bool:
        """Whether the file `signature` holds a signature of `manifest` by one of the keys."""
        with signature.open("rb") as file:
            found = file.read(SIGNATURE_BYTES + 1)
        return any(_verifies(key, found, CONTEXT + manifest) for key in self._keys)


class PrivateKey:
    """A key that signs."""

    def __init__(self, path: Path) -> None:
        """Read a PEM file. Raises `ConfigError` unless it is an Ed25519 private key without a password."""
        self._key = _private_key(path)

    def sign(self, manifest: bytes) -> bytes:
        """Sign `manifest`; the signature has `SIGNATURE_BYTES` bytes."""
        return self._key.sign(CONTEXT + manifest)


def _verifies(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(_pem(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public", "openssl pkey -in KEY.pem -pubout") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public", "openssl pkey -in KEY.pem -pubout")
    return key


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(_pem(path), password=None)
    except TypeError as error:  # the library raises it for a key with a password
        raise ConfigError(
            f"{path}: expected a key without a password, found one with a password; run: openssl pkey -in OLD -out NEW"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private", "openssl genpkey -algorithm ed25519") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private", "openssl genpkey -algorithm ed25519")
    return key


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a PEM file with an Ed25519 key, but it cannot be read: {error}") from error


def _no_key(path: Path, kind: str, command: str) -> ConfigError:
    return ConfigError(f"{path}: expected an Ed25519 {kind} key in PEM, found none; write one with `{command}`")
