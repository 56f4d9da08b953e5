"""A checkpoint of a public size with random weights, exported as a user would, and what that took.

As a script it writes the results: `python tests/true_size.py OUT 2B 7B 7B+merged`, with the weights in a folder of
TMPDIR that is removed behind each. `+merged`: an adapter is summed into the weights; `+switchable`: two adapters over
one set of weights. A 7B needs 34 GB of disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from zlib import crc32

import msgspec
import torch
from measured import table, write_measured

from edge_sdk.benchmarks.conditions import Watch, commit
from edge_sdk.bundle import Bundle
from edge_sdk.export.layouts import LAYOUTS, LINEARS, PROJECTOR, Shape, stored_shape, tensor_shapes
from edge_sdk.export.model_config import ModelConfig
from edge_sdk.toolchain.exporting import ExportReport

SHARED = Path(__file__).parents[2] / "shared" / "data"
SHARD_BYTES, INTERVAL_S, NAME = 5_000_000_000, 0.1, "true-size"
MB = 1e6
# 10^6 bytes of anonymous memory; the others hold for both sizes.
MEMORY_MB = {"2B": 2000.0, "7B": 3000.0}
ADAPTERS = {"": (), "merged": ("linguistic",), "switchable": ("linguistic", "perception")}
DISK_SHARE, SECONDS, GRAPH_MB = 1.1, 900.0, 8.0


class TrueSize(msgspec.Struct, frozen=True, kw_only=True):
    """One export: sizes in 10^6 bytes, the largest RssAnon + RssShmem, the most that work folder and bundle held.

    `other_cores`: how many cores other work took meanwhile, None where that cannot be told.
    """

    case: str
    date_utc: str
    commit: str | None
    other_cores: float | None
    checkpoint_mb: float
    bundle_mb: float
    anonymous_mb: float
    disk_mb: float
    seconds: float
    decoder_graph_mb: float
    open_s: float
    graphs: int
    report: ExportReport


def export_true_size(case: str, folder: Path) -> TrueSize:
    """Make the checkpoint, export it, open the bundle; `folder` holds all of it."""
    watch, checkpoint, out = Watch(), folder / "checkpoint", folder / "bundle"
    size, _, form = case.partition("+")
    make_checkpoint(size, checkpoint)
    words = [Path(sys.executable).with_name("edge-sdk"), "export", checkpoint, "--out", out, "--dtype", "float16"]
    for name in ADAPTERS[form]:
        make_adapter(checkpoint, folder / name)
        words += ["--adapter", f"{name}={folder / name}", *(["--merge", name] if form == "merged" else [])]
    words += ["--switchable"] if form == "switchable" else []
    begun_s = time.monotonic()
    run = watched([*map(str, words), "--json"], [out, out.with_name("bundle.work")])
    if run.report is None:
        raise RuntimeError("the export was killed")
    seconds = time.monotonic() - begun_s
    begun_s = time.monotonic()
    bundle = Bundle.open(out)
    files = bundle.manifest.files
    return TrueSize(
        case=case,
        date_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=commit(Path(__file__).parent),
        other_cores=watch.state({}).other_cores,
        checkpoint_mb=sum(file.stat().st_size for file in checkpoint.iterdir()) / MB,
        bundle_mb=sum(entry.size_bytes for entry in files.values()) / MB,
        anonymous_mb=run.anonymous_mb,
        disk_mb=run.disk_mb,
        seconds=seconds,
        decoder_graph_mb=max(entry.size_bytes for name, entry in files.items() if re.search(r"decoder.*\.onnx$", name))
        / MB,
        open_s=time.monotonic() - begun_s,
        graphs=len(bundle.manifest.graphs),
        report=run.report,
    )


def make_checkpoint(size: str, folder: Path, layers: int | None = None) -> None:
    """A bfloat16 checkpoint of `size` in shards, with the real tokenizer; every tensor begins elsewhere in one block
    of random values, so that no two are equal. With `layers`, decoder and tower have so many of their true widths.
    """
    folder.mkdir(parents=True)
    published = SHARED / "videollama3-configs" / f"DAMO-NLP-SG__VideoLLaMA3-{size}__config.json"
    settings = json.loads(published.read_text())
    if layers is not None:
        settings["num_hidden_layers"] = settings["vision_encoder_config"]["num_hidden_layers"] = layers
    (folder / "config.json").write_text(json.dumps(settings))
    for file in (SHARED / "qwen2.5-tokenizer").iterdir():
        shutil.copy(file, folder / file.name)
    config = ModelConfig.read(folder)
    layout = next(layout for layout in LAYOUTS if layout.name == "videollama3")
    shapes = {layout.public(n): stored_shape(n, s, config.vision) for n, s in tensor_shapes(config).items()}
    groups, blocks = list(_groups(shapes)), _blocks()
    places: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        shard = f"model-{number:05}-of-{len(groups):05}.safetensors"
        places |= dict.fromkeys(names, shard)
        _write_shard(folder / shard, {name: shapes[name] for name in names}, blocks)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def make_adapter(checkpoint: Path, folder: Path, rank: int = 64) -> None:
    """LoRA of `rank` on every linear of the checkpoint's decoder, and a projector of its own, as peft saves them."""
    folder.mkdir()
    targets = [public.rpartition(".")[2] for public in LINEARS.values()]
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": targets, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    shapes: dict[str, Shape] = {}
    known = tensor_shapes(ModelConfig.read(checkpoint))
    for name, shape in known.items():
        found = re.fullmatch(r"decoder\.layers\.(\d+)\.(\w+)\.weight", name)
        if found and found[2] in LINEARS:
            stem = f"base_model.model.model.layers.{found[1]}.{LINEARS[found[2]]}"
            shapes |= {f"{stem}.lora_A.weight": (rank, shape[1]), f"{stem}.lora_B.weight": (shape[0], rank)}
    _write_shard(folder / "adapter_model.safetensors", shapes, _blocks())
    projector = {f"base_model.model.model.mm_projector.readout.{n[10:]}": known[n] for n in PROJECTOR}
    generator = torch.Generator().manual_seed(1)
    tensors = {name: (torch.randn(shape, generator=generator) * 0.02).bfloat16() for name, shape in projector.items()}
    torch.save(tensors, folder / "non_lora_trainables.bin")


def _blocks() -> dict[bool, bytes]:
    """Random values; and for what scales a norm, values around one."""
    random = (torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    return {False: _bytes(random), True: _bytes(random + 1)}


def _groups(shapes: dict[str, Shape]) -> Iterator[list[str]]:
    names: list[str] = []
    held = 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        if names and held + size > SHARD_BYTES:
            yield names
            names, held = [], 0
        names.append(name)
        held += size
    yield names


def _write_shard(path: Path, shapes: dict[str, Shape], blocks: dict[bool, bytes]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            norm = "norm" in name and name.endswith("weight")
            _write_values(file, blocks[norm], 2 * (crc32(name.encode()) % (1 << 22)), 2 * torch.Size(shape).numel())


def _write_values(file: BinaryIO, block: bytes, start: int, length: int) -> None:
    view = memoryview(block)
    while length:
        written = file.write(view[start : start + length])
        length, start = length - written, (start + written) % len(block)


def _bytes(values: torch.Tensor) -> bytes:
    return bytes(values.view(torch.uint8).numpy().data)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a command: its last line, the largest anonymous memory of it and its children, the most on the disk.

    `report` is None for a run that was killed.
    """

    report: ExportReport | None
    anonymous_mb: float
    disk_mb: float


def watched(command: Sequence[str], folders: Sequence[Path], kill_when: Callable[[], bool] = lambda: False) -> Run:
    """Run the command and watch it and `folders`; it is killed, without warning, as soon as `kill_when` says so."""
    anonymous_mb, disk_mb, killed = 0.0, 0.0, False
    with TemporaryDirectory() as logs, (Path(logs) / "out").open("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=sys.stderr)
        while process.poll() is None:
            anonymous_mb = max(anonymous_mb, sum(map(_resident_mb, _family(process.pid))))
            disk_mb = max(disk_mb, _held_mb(folders))
            if not killed and kill_when():
                process.kill()
                killed = True
            time.sleep(INTERVAL_S)
        out.seek(0)
        said = out.read()
    if process.returncode and not killed:
        raise RuntimeError(f"the export ended with {process.returncode}: {said}")
    report = None if killed else msgspec.json.decode(said.splitlines()[-1], type=ExportReport)
    return Run(report=report, anonymous_mb=anonymous_mb, disk_mb=disk_mb)


def _family(process: int) -> Iterator[int]:
    yield process
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from _family(int(child))


def _resident_mb(process: int) -> float:
    with suppress(OSError):
        found = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
        return sum(map(int, found)) * 1024 / MB
    return 0.0


def _held_mb(folders: Sequence[Path]) -> float:
    """What files take on the disk, each once, however many names it has."""
    sizes: dict[int, int] = {}
    for folder in [*folders, *folders[0].parent.glob(f".{folders[0].name}*"), *_drafts(folders)]:
        for path, _, names in os.walk(folder):
            for name in names:
                with suppress(OSError):
                    status = (Path(path) / name).stat()
                    sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values()) / MB


def _drafts(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from folder.parent.glob(f"{folder.name}.tmp-*")


def main(out: Path, cases: list[str]) -> None:
    """Write `true-size.json` and `true-size.md` to `out`; other cases that are there already stay."""
    for case in cases:
        watch = Watch()
        with TemporaryDirectory(prefix="true-size-") as folder:
            found = export_true_size(case, Path(folder))
        print(found, flush=True)
        kept = {each.case: each for each in (*_before(out), found)}
        every = [kept[name] for name in sorted(kept)]
        lines = [NOTE, "", *table(HEAD, map(_cells, every)), "", *_stages(every)]
        write_measured(out, NAME, "Exports of checkpoints of the true sizes, float16", watch, every, lines)


def _before(out: Path) -> list[TrueSize]:
    path = out / f"{NAME}.json"
    if not path.is_file():
        return []
    return msgspec.convert(msgspec.json.decode(path.read_bytes())["found"], list[TrueSize])


NOTE = f"""Random bfloat16 weights in shards of 5 GB; both dialects, profiles 96f and 48f, caches of 2,048, 4,096 and
10,752 slots. `+merged`: an adapter of rank 64 is summed into the weights; `+switchable`: two of them over one set of
weights. Memory is RssAnon + RssShmem of the process and its children, every {INTERVAL_S * 1e3:.0f} ms; disk is all that
bundle and work folder hold at one time, beside the checkpoint. MB are 10^6 bytes. Limits: memory 2,000 MB (2B) and
3,000 MB (7B), disk {DISK_SHARE} of the bundle, {SECONDS:.0f} s, {GRAPH_MB:.0f} MB a decoder graph."""
HEAD = "case | beside, cores | checkpoint MB | bundle MB | memory MB | disk MB | disk/bundle | s | graph MB | open s"


def _cells(each: TrueSize) -> tuple[object, ...]:
    return (
        each.case,
        "unknown" if each.other_cores is None else f"{each.other_cores:.1f}",
        f"{each.checkpoint_mb:,.0f}",
        f"{each.bundle_mb:,.0f}",
        f"{each.anonymous_mb:,.0f}",
        f"{each.disk_mb:,.0f}",
        f"{each.disk_mb / each.bundle_mb:.2f}",
        f"{each.seconds:.0f}",
        f"{each.decoder_graph_mb:.2f}",
        f"{each.open_s:.0f}",
    )


def _stages(found: Sequence[TrueSize]) -> list[str]:
    names = list(dict.fromkeys(name for each in found for name in each.report.stages))
    rows = [[name, *(f"{each.report.stages.get(name, 0):.1f}" for each in found)] for name in names]
    return table(" | ".join(["stage, s", *(each.case for each in found)]), rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
