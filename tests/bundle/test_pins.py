"""A digest that a device was given: that bundle is opened and no other, and nothing of another is read."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy_bundle import edit, files, write

import edge_sdk
from edge_sdk.bundle import Bundle, default_bundle, open_bundle, rewrite
from edge_sdk.errors import BundleChangedFileError, BundleError, BundleSchemaError, ConfigError


def digest_of(folder: Path) -> str:
    """The manifest's, as `sha256sum` tells it."""
    told = subprocess.run(["sha256sum", folder / "manifest.json"], capture_output=True, text=True, check=True)
    return told.stdout.split()[0]


def relisted(folder: Path, name: str, data: bytes) -> None:
    """Put another file in the place of `name`, and have the manifest vouch for it."""
    (folder / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    edit(folder, lambda document: document["files"].update({name: entry}))


def opened_below(folder: Path, expect: str) -> set[str]:
    """Files in `folder` that a process opens which opens the bundle, by Python's own account of every file."""
    code = (
        "import os, sys\nfrom edge_sdk.bundle import open_bundle\nfrom edge_sdk.errors import BundleError\n"
        "folder, expect = sys.argv[1:]\n"
        "def heard(event, args):\n"
        "    if event == 'open' and str(args[0]).startswith(folder): print(os.path.relpath(args[0], folder))\n"
        "sys.addaudithook(heard)\n"
        "try: open_bundle(folder, expect=expect)\nexcept BundleError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder, expect], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_bundle_that_was_named_is_opened(folder: Path) -> None:
    digest = digest_of(folder)
    assert (Bundle.open(folder).sha256, Bundle.open(folder).pinned) == (digest, False)
    for expect in (digest, digest.upper()):
        bundle = open_bundle(folder, expect=expect)
        assert (bundle.sha256, bundle.pinned) == (digest, True)


def test_another_bundle_is_one_error_with_both_digests_and_what_to_do(folder: Path, tmp_path: Path) -> None:
    expect, found = digest_of(folder), write(tmp_path / "other", version="2").sha256
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "other", expect=expect)
    assert type(caught.value) is BundleError
    assert str(caught.value) == (
        f"{tmp_path / 'other'}: expected the bundle of SHA-256 {expect}, found the one of {found}; put the expected "
        "one there, or give the digest that `edge-sdk bundle show` prints where the bundle was made"
    )


@pytest.mark.parametrize("name", sorted(files()))
def test_the_digest_covers_every_file(folder: Path, name: str) -> None:
    """A changed file whose manifest vouches for it is a good bundle, and another one."""
    expect, data = digest_of(folder), bytearray((folder / name).read_bytes())
    if name.endswith(".onnx"):
        data += b"\x12\x01x"  # producer_name, which no reader looks at
    else:
        data[0] ^= 1
    relisted(folder, name, bytes(data))
    assert Bundle.open(folder).path(name).read_bytes() == data
    with pytest.raises(BundleError, match=f"expected the bundle of SHA-256 {expect}"):
        open_bundle(folder, expect=expect)


def test_a_changed_file_under_the_manifest_that_was_named(folder: Path) -> None:
    expect = digest_of(folder)
    (folder / "notes.txt").write_bytes(b"made for a jest\n")
    with pytest.raises(BundleChangedFileError, match=r"notes\.txt"):
        open_bundle(folder, expect=expect)


def test_nothing_of_another_bundle_is_read_but_its_manifest(folder: Path) -> None:
    assert opened_below(folder, "0" * 64) == {"manifest.json"}
    # And all would be seen.
    assert opened_below(folder, digest_of(folder)) == {"manifest.json", *files()}


def test_what_another_manifest_says_is_not_judged(folder: Path) -> None:
    edit(folder, lambda document: document.update(schema=99))
    with pytest.raises(BundleError, match="expected the bundle of SHA-256 00"):
        open_bundle(folder, expect="0" * 64)
    with pytest.raises(BundleSchemaError):
        open_bundle(folder)


@pytest.mark.parametrize("expect", ["", "0" * 12, "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "sha256:" + "0" * 64])
def test_what_is_no_whole_digest_is_refused_before_anything_is_looked_for(expect: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        open_bundle(tmp_path / "nowhere", expect=expect)


def test_a_rewritten_bundle_is_another(folder: Path) -> None:
    expect = digest_of(folder)
    rewrite(Bundle.open(folder), folder, version="2", overwrite=True)
    with pytest.raises(BundleError, match="expected the bundle of SHA-256"):
        open_bundle(folder, expect=expect)


def test_a_unit_opens_what_it_was_told(tmp_path: Path) -> None:
    clip, expect = default_bundle() / "demo" / "clip.mp4", digest_of(default_bundle())
    with edge_sdk.open(clip, expect=expect) as unit:
        (event,) = unit.events({"confirmed"})
    assert event.provenance.bundle_sha256 == expect
    shutil.copytree(default_bundle(), tmp_path / "put")
    edit(tmp_path / "put", lambda document: document.update(version="evil"))
    with pytest.raises(BundleError, match=f"expected the bundle of SHA-256 {expect}"):
        edge_sdk.open(clip, tmp_path / "put", expect=expect)
    with pytest.raises(ConfigError, match="this bundle is open already; give its folder"):
        edge_sdk.open(clip, open_bundle(tmp_path / "put"), expect=expect)
