"""Signatures of bundles: ours are OpenSSL's and OpenSSL's are ours, and only a trusted key opens a bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy_bundle import edit, refused, write

import edge_sdk
from edge_sdk.bundle import Bundle, default_bundle, open_bundle, rewrite
from edge_sdk.errors import BundleError, BundlePathError, BundleUnlistedFileError, ConfigError

pytest.importorskip("cryptography")
if shutil.which("openssl") is None:
    pytest.skip("needs the program openssl", allow_module_level=True)
from edge_sdk.bundle.signing import sign_bundle

# The text in front of what is signed, as docs/jetson.md tells it to who signs with other means.
CONTEXT = b"CrashChat Edge SDK bundle manifest 1\n"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def key_pair(folder: Path, name: str, *algorithm: str) -> tuple[Path, Path]:
    """A private and a public key as `openssl` writes them."""
    private, public = folder / f"{name}.pem", folder / f"{name}.public.pem"
    openssl("genpkey", "-algorithm", *(algorithm or ("ed25519",)), "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: key_pair(folder, name) for name in ("ours", "next", "theirs")}


def message_of(folder: Path) -> Path:
    """What is signed, in a file beside the bundle."""
    message = folder.with_name("message")
    message.write_bytes(CONTEXT + (folder / "manifest.json").read_bytes())
    return message


def test_openssl_verifies_what_was_signed_here(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    private, public = keys["ours"]
    signed = sign_bundle(folder, private)
    assert signed == Bundle.open(folder)
    words = ("pkeyutl", "-verify", "-rawin", "-pubin", "-in", message_of(folder), "-sigfile", folder / "manifest.sig")
    openssl(*words, "-inkey", public)
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*words, "-inkey", keys["theirs"][1])


def test_what_openssl_has_signed_is_trusted_here(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    private, public = keys["ours"]
    words = ("pkeyutl", "-sign", "-rawin", "-inkey", private, "-out", folder / "manifest.sig")
    openssl(*words, "-in", message_of(folder))
    bundle = open_bundle(folder, trust=public)
    assert (bundle.pinned, bundle.sha256) == (True, open_bundle(folder).sha256)
    openssl(*words, "-in", folder / "manifest.json")
    with pytest.raises(BundleError, match="by another key or of another manifest"):
        open_bundle(folder, trust=public)


def test_any_of_several_keys_is_enough_and_no_other_is(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    ours, following, theirs = (keys[name] for name in ("ours", "next", "theirs"))
    sign_bundle(folder, ours[0])
    assert open_bundle(folder, trust=[following[1], str(ours[1])]).pinned
    sign_bundle(folder, following[0])
    assert open_bundle(folder, trust=[following[1], ours[1]]).pinned
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, trust=[ours[1], theirs[1]])
    for word in (str(ours[1]), str(theirs[1]), "manifest.sig", "fetch the bundle again"):
        assert word in str(caught.value)


def test_an_unsigned_bundle_is_refused_before_it_is_read(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    public = keys["ours"][1]
    (folder / "notes.txt").unlink()
    with pytest.raises(BundleError, match=r"found no file manifest\.sig; fetch the bundle again with it"):
        open_bundle(folder, trust=public)
    (folder / "manifest.sig").symlink_to(public)
    with pytest.raises(BundleError, match="found no file"):
        open_bundle(folder, trust=public)


def test_a_signature_is_of_one_manifest_to_the_byte(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    private, public = keys["ours"]
    sha256 = sign_bundle(folder, private).sha256
    edit(folder, lambda document: None)  # written in another form, of the same digest
    assert Bundle.open(folder).sha256 == sha256
    with pytest.raises(BundleError, match="of another manifest"):
        open_bundle(folder, trust=public)


@pytest.mark.parametrize("data", [b"", b"\0" * 63, b"\0" * 64, b"\0" * 65])
def test_rubbish_is_no_signature(folder: Path, keys: dict[str, tuple[Path, Path]], data: bytes) -> None:
    (folder / "manifest.sig").write_bytes(data)
    with pytest.raises(BundleError, match="another key or of another manifest"):
        open_bundle(folder, trust=keys["ours"][1])
    Bundle.open(folder)


def test_both_pins_count(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    """Who signs may have signed an older bundle too, with faults that are known: the digest names one."""
    private, public = keys["ours"]
    sha256 = sign_bundle(folder, private).sha256
    assert open_bundle(folder, expect=sha256, trust=public).sha256 == sha256
    with pytest.raises(BundleError, match="expected the bundle of SHA-256"):
        open_bundle(folder, expect="0" * 64, trust=public)
    with pytest.raises(BundleError, match="expected manifest"):
        open_bundle(folder, expect=sha256, trust=keys["theirs"][1])


def test_a_changed_copy_carries_no_signature(folder: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    bundle = sign_bundle(folder, keys["ours"][0])
    rewrite(bundle, tmp_path / "copy")
    rewrite(bundle, folder, version="2", overwrite=True)
    assert not (tmp_path / "copy" / "manifest.sig").exists()
    assert not (folder / "manifest.sig").exists()


def test_a_bundle_that_does_not_open_is_not_signed(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    (folder / "notes.txt").write_bytes(b"made for a jest\n")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        sign_bundle(folder, keys["ours"][0])
    assert not (folder / "manifest.sig").exists()


def test_the_manifest_does_not_list_its_signature(folder: Path, tmp_path: Path) -> None:
    entry = {"sha256": "0" * 64, "size_bytes": 1}
    edit(folder, lambda document: document["files"].update({"manifest.sig": entry}))
    refused(folder, BundlePathError, "manifest.sig", "cannot list itself or its signature")
    with pytest.raises(BundlePathError, match=r"manifest\.sig"):
        write(tmp_path / "other", files={"manifest.sig": b"x"})


def test_a_signature_anywhere_else_is_a_file_like_any(folder: Path) -> None:
    (folder / "graphs" / "manifest.sig").touch()
    refused(folder, BundleUnlistedFileError, "graphs/manifest.sig", "not in the manifest")


def test_what_is_no_key_is_refused_by_its_name(
    folder: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    private, public = keys["ours"]
    other = key_pair(tmp_path, "x25519", "x25519")
    locked, text = tmp_path / "locked.pem", tmp_path / "text.pem"
    openssl("pkey", "-in", private, "-aes256", "-passout", "pass:secret", "-out", locked)
    text.write_text("no key\n")
    for wrong in (private, other[1], text, tmp_path / "nowhere.pem"):
        with pytest.raises(ConfigError, match=rf"{wrong.name}: expected .*Ed25519"):
            open_bundle(folder, trust=[public, wrong])
    for wrong in (public, other[0], text, tmp_path / "nowhere.pem"):
        with pytest.raises(ConfigError, match=rf"{wrong.name}: expected .*Ed25519"):
            sign_bundle(folder, wrong)
    with pytest.raises(ConfigError, match=r"locked\.pem: expected a key without a password"):
        sign_bundle(folder, locked)
    with pytest.raises(ConfigError, match="found an empty list"):
        open_bundle(folder, trust=[])


def test_a_unit_opens_what_a_trusted_key_has_signed(keys: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    clip, folder = default_bundle() / "demo" / "clip.mp4", tmp_path / "signed"
    shutil.copytree(default_bundle(), folder)
    with pytest.raises(BundleError, match=r"found no file manifest\.sig"):
        edge_sdk.open(clip, folder, trust=keys["ours"][1])
    sha256 = sign_bundle(folder, keys["ours"][0]).sha256
    with edge_sdk.open(clip, folder, trust=keys["ours"][1]) as unit:
        assert unit.bundle.sha256 == sha256


def test_without_the_package_trust_says_what_to_install(folder: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    code = (
        "import sys\nsys.modules['cryptography'] = None\nfrom edge_sdk.bundle import open_bundle\n"
        "from edge_sdk.errors import MissingDependencyError\nopen_bundle(sys.argv[1])\n"
        "try: open_bundle(sys.argv[1], trust=sys.argv[2])\nexcept MissingDependencyError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(folder), str(keys["ours"][1])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "'cryptography'" in done.stdout
    assert "run: pip install 'cryptography>=3.4'" in done.stdout
