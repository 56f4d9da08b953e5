"""A bundle: one folder with a manifest that vouches for every byte in it, except a signature of the manifest itself.

Opening checks everything and executes nothing. Paths stay inside the folder, and no file is missing, changed or
unlisted. No graph reads weights that the manifest does not list, or might never end. Symbolic links inside are refused,
because their targets can move. A link to the folder is resolved once, so moving the link later has no effect. Writing
stages a whole folder, opens it as a user would, and renames it into place.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.bundle.manifest import SCHEMA, DemoClip, FileEntry, Graph, Manifest, Student
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.bundle.manifest_text import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    check_file_path,
    check_path,
    manifest_text,
    read_manifest,
)
from edge_sdk.bundle.onnx_file import endless, external_locations
from edge_sdk.bundle.pins import KeyFiles, Pins
from edge_sdk.errors import (
    BundleChangedFileError,
    BundleError,
    BundleMissingFileError,
    BundlePathError,
    BundleUnlistedFileError,
    BundleUnreadableError,
    UnknownNameError,
)
from edge_sdk.files import atomic_folder, recover, sha256_of


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A checked bundle: its folder with all links resolved, its manifest, and the SHA-256 of the manifest.

    `pinned` is true if a digest or a signature was required; another process that opens the bundle then hashes it
    again.
    """

    folder: Path
    manifest: Manifest
    sha256: str
    pinned: bool = False

    @classmethod
    def open(cls, folder: str | Path, *, expect: str | None = None, trust: KeyFiles | None = None) -> Bundle:
        """Open and check the bundle in `folder`, hashing every file.

        `expect` is the SHA-256 of the only bundle to accept, in hexadecimal. `trust` names PEM files of Ed25519 public
        keys, one of which must have signed the bundle. A bundle that fails either is refused before anything except its
        manifest and signature is read. Raises `BundleMissingFileError`, `BundleUnreadableError`,
        `BundleChangedFileError`, `BundleUnlistedFileError`, `BundleKeyError`, `BundleNameError`, `BundlePathError` or
        `BundleSchemaError`; a plain `BundleError` for any other fault and for a bundle refused by `expect` or `trust`;
        `ConfigError` for an invalid digest or key; `MissingDependencyError` for keys without `cryptography`.
        """
        pins = Pins.of(expect, trust)
        root = _resolved(folder)
        if any("\udc80" <= letter <= "\udcff" for letter in str(root)):
            # Runtimes and the reasoner's process receive the path as text.
            raise BundleError(f"the bundle's path must be UTF-8, found {os.fsencode(root)!r}; rename the folder")
        with _readable(root):
            manifest, digest = read_manifest(root, partial(pins.check, root))
        bundle = cls(folder=root, manifest=manifest, sha256=digest, pinned=pins.given)
        bundle.check_files()
        with _readable(root):
            _check_graphs(root, manifest)
        return bundle

    def check_files(self) -> None:
        """Hash every file again. Raises what `open` raises for a file that does not match the manifest."""
        with _readable(self.folder):
            _check_presence(self.folder, self.manifest)
            for path, entry in sorted(self.manifest.files.items()):
                _check_bytes(self.folder, path, entry)

    def path(self, relative: str) -> Path:
        """Return the path of the file `relative`. Raises `BundleMissingFileError` if the manifest does not list it."""
        if relative not in self.manifest.files:
            raise BundleMissingFileError(f"{relative!r} is not a file of the bundle {self.folder}")
        return self.folder / relative

    def graph(self, name: str = "student") -> tuple[Graph, Path]:
        """Return the graph called `name` and the path of its ONNX file. Raises `UnknownNameError`."""
        if name not in self.manifest.graphs:
            raise UnknownNameError("graph", name, list(self.manifest.graphs))
        graph = self.manifest.graphs[name]
        return graph, self.path(graph.file)


def default_bundle() -> Path:
    """Return the folder of the demo bundle that ships with the package."""
    return Path(__file__).parents[1] / "bundles" / "demo"


def open_bundle(
    folder: str | Path | None = None, *, expect: str | None = None, trust: KeyFiles | None = None
) -> Bundle:
    """Open the bundle in `folder`, by default the demo bundle; `expect`, `trust` and errors as for `Bundle.open`."""
    return Bundle.open(default_bundle() if folder is None else folder, expect=expect, trust=trust)


def write_bundle(
    folder: str | Path,
    *,
    name: str,
    version: str,
    graphs: Mapping[str, Graph],
    files: Mapping[str, Path | bytes],
    student: Student | None = None,
    language: Language | None = None,
    demo: DemoClip | None = None,
    # Any: what the recipe recorded, see Manifest.provenance.
    provenance: Mapping[str, Any] | None = None,
    created_utc: str | None = None,
    expected: Mapping[str, FileEntry] | None = None,
    overwrite: bool = False,
    link: bool = False,
) -> Bundle:
    """Write a bundle to `folder` atomically, and return it opened.

    `files` maps paths in the bundle to bytes, or to files to copy. With `link`, files are hard-linked instead if the
    file system allows it, for weights that the disk cannot hold twice; nobody may write into them afterwards.
    `created_utc` is by default the time of the call. `expected` holds entries that the written files must match. Raises
    `ConfigError` if `folder` exists and `overwrite` is false, `BundleChangedFileError` for a file that does not match
    `expected`, and what `Bundle.open` raises for a bundle that would not open. After an error nothing is left behind.
    """
    target = _resolved(folder)
    with atomic_folder(target, overwrite=overwrite) as stage:
        entries = {path: _place(target, stage, path, source, link) for path, source in files.items()}
        for path in sorted(entries.keys() & (expected or {}).keys()):
            _check_entry(target, path, entries[path], (expected or {})[path])
        manifest = Manifest(
            schema=SCHEMA,
            name=name,
            version=version,
            created_utc=created_utc or datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            graphs=dict(graphs),
            student=student,
            language=language,
            demo=demo,
            provenance=dict(provenance or {}),
            files=entries,
        )
        (stage / MANIFEST_NAME).write_text(manifest_text(manifest), encoding="utf-8", newline="\n")
        opened = Bundle.open(stage)
    return msgspec.structs.replace(opened, folder=target)


def rewrite(
    bundle: Bundle,
    folder: str | Path,
    *,
    student: Student | None = None,
    language: Language | None = None,
    demo: DemoClip | None = None,
    version: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, Path | bytes] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a changed copy of `bundle` to `folder` and return it opened; with `overwrite` it may be the same folder.

    Parts that are not given stay as they are. `provenance` adds keys and `extra_files` adds files; an existing key or
    path is replaced. A folder that a killed writer had set aside first gets its name back. The old files are checked
    again, and so are their copies, so that the new manifest never vouches for a changed byte. Raises what
    `write_bundle` raises.
    """
    recover(bundle.folder)
    current = Bundle.open(bundle.folder)
    old = current.manifest
    files: dict[str, Path | bytes] = {path: current.path(path) for path in old.files}
    files |= extra_files or {}
    return write_bundle(
        folder,
        name=old.name,
        version=version or old.version,
        graphs=old.graphs,
        files=files,
        student=student or old.student,
        language=language or old.language,
        demo=demo or old.demo,
        provenance={**old.provenance, **(provenance or {})},
        expected={path: entry for path, entry in old.files.items() if path not in (extra_files or {})},
        overwrite=overwrite,
    )


@contextmanager
def _readable(root: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into `BundleUnreadableError`."""
    try:
        yield
    except OSError as error:
        raise BundleUnreadableError(f"the bundle {root} cannot be read: {error}") from error


def _resolved(folder: str | Path) -> Path:
    """Resolve all links of `folder`. Raises `BundleUnreadableError` for text that cannot be a path."""
    try:
        return Path(os.path.realpath(folder))
    except ValueError as error:
        raise BundleUnreadableError(f"{str(folder)!r} is not a bundle: {error}; give the folder of a bundle") from error


def _place(target: Path, stage: Path, path: str, source: Path | bytes, link: bool) -> FileEntry:
    check_file_path(target / MANIFEST_NAME, path)
    place = stage / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        place.write_bytes(source)
    elif not (link and _linked(source, place)):
        shutil.copyfile(source, place)
    return FileEntry(sha256=sha256_of(place), size_bytes=place.stat().st_size)


def _linked(source: Path, place: Path) -> bool:
    try:
        os.link(source, place)
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every entry below `root` that is not a folder, as a relative POSIX path; links are not followed."""
    for parent, folders, names in os.walk(root, onerror=_raise):
        for name in [*folders, *names]:
            place = Path(parent, name)
            status = place.lstat()
            if not stat.S_ISDIR(status.st_mode):
                yield place.relative_to(root).as_posix(), status


def _raise(error: OSError) -> None:
    raise error


def _check_presence(root: Path, manifest: Manifest) -> None:
    found = dict(_walk(root))
    found.pop(MANIFEST_NAME)
    for path, status in sorted(found.items()):
        if stat.S_ISLNK(status.st_mode):
            raise BundlePathError(f"{root}: {path!r} is a symbolic link; put the file itself there")
    for path in sorted(manifest.files):
        if path not in found or not stat.S_ISREG(found[path].st_mode):
            raise BundleMissingFileError(f"{root}: {path!r} is in the manifest, but no such file is in the folder")
    for path in sorted(found.keys() - manifest.files.keys() - {SIGNATURE_NAME}):
        raise BundleUnlistedFileError(
            f"{root}: {path!r} is not in the manifest; remove it, or write the bundle again with it"
        )


def _check_bytes(root: Path, path: str, entry: FileEntry) -> None:
    place = root / path
    size_bytes = place.stat().st_size
    sha256 = sha256_of(place) if size_bytes == entry.size_bytes else entry.sha256
    _check_entry(root, path, FileEntry(sha256=sha256, size_bytes=size_bytes), entry)


def _check_entry(root: Path, path: str, found: FileEntry, expected: FileEntry) -> None:
    if found.size_bytes != expected.size_bytes:
        raise BundleChangedFileError(
            f"{root}: {path!r} has {found.size_bytes} bytes, the manifest says {expected.size_bytes}; fetch the bundle "
            "again"
        )
    if found.sha256 != expected.sha256:
        raise BundleChangedFileError(
            f"{root}: {path!r} has SHA-256 {found.sha256}, the manifest says {expected.sha256}; fetch the bundle again"
        )


def _check_graphs(root: Path, manifest: Manifest) -> None:
    for graph in manifest.graphs.values():
        found = endless(root / graph.file)
        if found:
            raise BundleError(
                f"{root}: expected a graph of plain operators, found {found} in {graph.file!r}, which may never end; "
                "export the graph without it"
            )
        for location in sorted(external_locations(root / graph.file)):
            check_path(root / graph.file, "external data", location)
            path = posixpath.join(posixpath.dirname(graph.file), location)
            if path not in manifest.files:
                raise BundleUnlistedFileError(
                    f"{root}: the graph {graph.file!r} reads weights from {path!r}, which is not in the manifest"
                )
