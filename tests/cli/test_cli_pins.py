"""`--expect` and `--trust` on every verb that runs a bundle, and `bundle sign`, as a user types them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import last_json, sdk

from edge_sdk.bundle import default_bundle

CLIP = str(default_bundle() / "demo" / "clip.mp4")
VERBS = [
    ("run", CLIP),
    ("analyze", CLIP),
    ("explain", CLIP),
    ("demo",),
    ("verify",),
    ("build",),
    ("bench",),
    ("bundle", "check"),
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_another_bundle_is_refused_in_one_line(verb: tuple[str, ...], tmp_path: Path) -> None:
    done = sdk(*verb, "--expect", "0" * 64, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert f"expected the bundle of SHA-256 {'0' * 64}, found the one of " in line
    assert list(tmp_path.iterdir()) == []


def test_the_digest_that_show_prints_opens_and_a_part_of_it_does_not() -> None:
    shown = sdk("bundle", "show").stdout.splitlines()[0].rpartition("sha256 ")[2]
    assert last_json(sdk("bundle", "check", "--expect", shown, "--json"))["sha256"] == shown
    short = sdk("bundle", "check", "--expect", shown[:12])
    assert short.returncode == 2
    assert f"64 hexadecimal digits as `edge-sdk bundle show` prints them, found '{shown[:12]}'" in short.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_a_bundle_is_signed_and_trusted_by_any_of_several_keys(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    public: dict[str, str] = {}
    for name in ("maker", "other"):
        private, public[name] = tmp_path / f"{name}.pem", str(tmp_path / f"{name}.public.pem")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public[name]], check=True)
    folder = shutil.copytree(default_bundle(), tmp_path / "bundle")
    check = ("bundle", "check", "--bundle", str(folder), "--json")
    assert sdk(*check, "--trust", public["maker"]).returncode == 4
    signed = last_json(sdk("bundle", "sign", str(folder), "--key", str(tmp_path / "maker.pem"), "--json"))
    assert (signed["signature"], (folder / "manifest.sig").stat().st_size) == ("manifest.sig", 64)
    assert last_json(sdk(*check, "--trust", public["other"], "--trust", public["maker"]))["sha256"] == signed["sha256"]
    refused = sdk(*check, "--trust", public["other"])
    assert refused.returncode == 4
    assert f"the signature of this manifest by {public['other']}, found one by another key" in refused.stderr
