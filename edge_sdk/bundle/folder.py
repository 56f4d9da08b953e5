"""A bundle: one folder with a manifest that vouches for every byte in it, but for a signature of the manifest itself.

Opening checks everything and executes nothing: paths stay inside, no file is missing, changed or unlisted, and no
graph reads weights the manifest does not vouch for or need never end. Symbolic links inside are refused, for what they
point to can move. One that leads to the folder is followed once: whoever moves it meanwhile changes nothing here.
Writing stages a whole folder, opens it as a user would, and renames it into place.
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
    """A bundle that has been checked: its folder behind all links, manifest, and the SHA-256 of the manifest.

    `pinned`: it was told by its digest or by who signed it, so that another process that opens it hashes it again.
    """

    folder: Path
    manifest: Manifest
    sha256: str
    pinned: bool = False

    @classmethod
    def open(cls, folder: str | Path, *, expect: str | None = None, trust: KeyFiles | None = None) -> Bundle:
        """Open and check the bundle in `folder`, hashing every file.

        With `expect`, the SHA-256 of a bundle in hexadecimal, no other bundle is opened. With `trust`, PEM files of
        Ed25519 public keys, none that is not signed by one of them. What is refused is so before anything but its
        manifest and signature is read. Raises `BundleMissingFileError`, `BundleChangedFileError`,
        `BundleUnlistedFileError`, `BundleKeyError`, `BundleNameError`, `BundlePathError` or `BundleSchemaError`;
        another fault, or another bundle, is a plain `BundleError`. `ConfigError` for what is no digest or no such key,
        and `MissingDependencyError` for keys without `cryptography`.
        """
        pins = Pins.of(expect, trust)
        root = _resolved(folder)
        if any("\udc80" <= letter <= "\udcff" for letter in str(root)):
            # Runtimes and the reasoner's process are told the path as text.
            raise BundleError(f"the bundle's path must be UTF-8, found {os.fsencode(root)!r}; rename the folder")
        with _readable(root):
            manifest, digest = read_manifest(root, partial(pins.check, root))
        bundle = cls(folder=root, manifest=manifest, sha256=digest, pinned=pins.given)
        bundle.check_files()
        with _readable(root):
            _check_graphs(root, manifest)
        return bundle

    def check_files(self) -> None:
        """Hash every file again. Raises as `open` does where one is not what the manifest says."""
        with _readable(self.folder):
            _check_presence(self.folder, self.manifest)
            for path, entry in sorted(self.manifest.files.items()):
                _check_bytes(self.folder, path, entry)

    def path(self, relative: str) -> Path:
        """Where the listed file `relative` lies. Raises `BundleMissingFileError` when the manifest does not list it."""
        if relative not in self.manifest.files:
            raise BundleMissingFileError(f"{relative!r} is not a file of the bundle {self.folder}")
        return self.folder / relative

    def graph(self, name: str = "student") -> tuple[Graph, Path]:
        """The graph called `name` and its ONNX file. Raises `UnknownNameError`."""
        if name not in self.manifest.graphs:
            raise UnknownNameError("graph", name, list(self.manifest.graphs))
        graph = self.manifest.graphs[name]
        return graph, self.path(graph.file)


def default_bundle() -> Path:
    """The folder of the demo bundle that travels with the package."""
    return Path(__file__).parents[1] / "bundles" / "demo"


def open_bundle(
    folder: str | Path | None = None, *, expect: str | None = None, trust: KeyFiles | None = None
) -> Bundle:
    """Open the bundle in `folder`, or the demo bundle; no other than `expect` and `trust` say. As `Bundle.open`."""
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
    """Write a bundle to `folder` whole, and return it opened.

    `files` maps paths in the bundle to bytes, or to files that are copied; `link` gives the files themselves another
    name instead, where the file system can, for weights that the disk would not hold twice: nobody may write into them
    afterwards. `created_utc` is now unless given. `expected` are entries that files must have once they are there.
    Raises `ConfigError` when `folder` exists and `overwrite` is false, `BundleChangedFileError` for a file that is not
    as `expected`, and what `Bundle.open` raises for a bundle that would not open; nothing is left behind then.
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
    """Write a changed copy of `bundle` to `folder`, which may be its own with `overwrite`; returns it opened.

    What is not given stays. `provenance` adds its keys to the old ones, `extra_files` their files; an equal key or
    path replaces. What a killed writer put aside has its name back first. The old files are checked again, and so are
    their copies, lest a changed byte be vouched for. Raises as `write_bundle`.
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
    """Inside, a disk that fails is `BundleUnreadableError`."""
    try:
        yield
    except OSError as error:
        raise BundleUnreadableError(f"the bundle {root} cannot be read: {error}") from error


def _resolved(folder: str | Path) -> Path:
    """Where `folder` lies behind all links. Raises `BundleUnreadableError` for what can be no path."""
    try:
        return Path(os.path.realpath(folder))
    except ValueError as error:
        raise BundleUnreadableError(f"{str(folder)!r} is not a bundle: {error}; give the folder of one") from error


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
    except OSError:  # another file system, or one without links
        return False
    return True


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below `root` that is not a folder, as a POSIX path relative to it; links are not followed."""
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
            f"{root}: {path!r} is not in the manifest; remove it, or write the bundle with it"
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
                f"{root}: expected a graph of plain operators, found {found} in {graph.file!r}, which need never end; "
                "export the graph without it"
            )
        for location in sorted(external_locations(root / graph.file)):
            check_path(root / graph.file, "external data", location)
            path = posixpath.join(posixpath.dirname(graph.file), location)
            if path not in manifest.files:
                raise BundleUnlistedFileError(
                    f"{root}: the graph {graph.file!r} reads weights from {path!r}, which is not in the manifest"
                )
