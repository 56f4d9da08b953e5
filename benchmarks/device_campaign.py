"""Measure everything on a CUDA machine with one command, within a time budget: `make campaign`.

The campaign lists what is installed, tries TensorRT-RTX on this GPU, compares every runtime with the bundles'
references, relates speed to the hardware's limits, and times transformers for comparison. Each runtime has its own
process. A measurement that cannot run becomes a row with the reason; without a GPU most rows are such.
`python -m edge_sdk.benchmarks.device_campaign --out DIR`
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from edge_sdk.benchmarks.campaign.jobs import Budget, Job, run_jobs
from edge_sdk.benchmarks.campaign.limits import settle_targets
from edge_sdk.benchmarks.campaign.order import QUICK, RUNTIMES, Amounts, Order
from edge_sdk.benchmarks.campaign.results import GPU_FIELDS, Campaign, write_campaign
from edge_sdk.benchmarks.campaign.rows import GOALS, Row
from edge_sdk.benchmarks.campaign.rtx import NAMES as RTX_NAMES
from edge_sdk.benchmarks.campaign.worker import planned
from edge_sdk.benchmarks.campaign.yardstick import FORMS
from edge_sdk.benchmarks.conditions import Watch, commit, validity
from edge_sdk.benchmarks.measure import withheld
from edge_sdk.bundle import default_bundle
from edge_sdk.bundle.manifest_text import read_manifest
from edge_sdk.cli.doctor import examine
from edge_sdk.errors import ConfigError, EdgeError, MissingDependencyError, UnknownNameError
from edge_sdk.hardware.cuda import CudaDevice, cuda_device
from edge_sdk.registry import why_missing
from edge_sdk.types import Value

_ROOM = "edge_sdk.benchmarks.campaign"
_PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt_rtx",
    "cuda-bindings",
    "torch",
    "transformers",
)
_SMI_S = 10.0
_DIGITS = 12


class Settings(Value, frozen=True, kw_only=True):
    """Settings of a campaign. `target` names the hardware's limits where they cannot be detected."""

    out: Path
    bundles: tuple[Path, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    runtimes: tuple[str, ...] = tuple(RUNTIMES)
    forms: tuple[str, ...] = tuple(FORMS)
    target: str | None = None
    engines: Path | None = None
    threads: int = 0
    amounts: Amounts = Amounts()
    quick: bool = False
    budget_s: float = 540.0


class Run:
    """One campaign: its rows so far, its conditions, and the files that it writes."""

    def __init__(self, settings: Settings) -> None:
        """Raises `UnknownNameError` for an unknown target, `ConfigError` for the target of another GPU."""
        self._settings, self.budget = settings, Budget(settings.budget_s)
        self._started = datetime.now(timezone.utc)
        self._commit = commit(Path(__file__).parent)
        self.device, self._why = _device()
        self.targets = settle_targets(self.device, settings.target)
        self._watch = Watch()
        self._facts = tuple(examine())
        self._versions = dict(_versions())
        self._subjects: dict[str, str] = {}
        self._gpu = [*_gpu_state()]
        self.rows: list[Row] = []

    def jobs(self) -> list[Job]:
        """The processes to run, cheap measurements first. Raises `BundleError` for a folder that is not a bundle."""
        settings = self._settings
        gpu, cpu = self.targets
        found = []
        if "rtx" in settings.runtimes:
            found.append(self._job("rtx", "rtx?", default_bundle(), "demo student", gpu, RTX_NAMES))
        for folder in settings.bundles or (default_bundle(),):
            manifest, sha256 = read_manifest(folder)
            subject = self._subject(manifest.name, folder, sha256)
            for name in settings.runtimes:
                target = cpu if name == "ort" else gpu
                found.append(self._job("worker", name, folder, subject, target, planned(manifest, name)))
        for folder in settings.checkpoints:
            subject = self._subject(folder.name, folder, _digest(folder / "config.json"))
            target = gpu if self.device else cpu
            found += [self._job("yardstick", form, folder, subject, target, FORMS[form]) for form in settings.forms]
        return sorted(found, key=lambda job: job.order.runtime == "ort")

    def put(self, row: Row) -> None:
        """Keep a row, and write all rows so far."""
        if row.what in GOALS:
            goal, floor = GOALS[row.what]
            row = msgspec.structs.replace(row, goal=goal, floor=floor)
        self.rows.append(row)
        self._watch.look()
        if self._gpu and row.raw_ms:
            self._gpu += _gpu_state()
        self.write()
        print(f"{row.runtime}, {row.subject}, {row.what}: {_told(row)}", flush=True)

    def write(self, *, finished: bool = False) -> None:
        """Write both files."""
        state = self._watch.state(self._versions)
        if not finished:
            # A process that has not ended yet would count as other work.
            state = msgspec.structs.replace(state, other_cores=None)
        settings = self._settings
        campaign = Campaign(
            started_utc=f"{self._started:%Y-%m-%dT%H:%M:%SZ}",
            commit=self._commit,
            device=self.device,
            why_no_device=self._why,
            targets=self.targets,
            machine=state,
            facts=self._facts,
            gpu=tuple(self._gpu),
            versions=self._versions,
            subjects=self._subjects,
            amounts=settings.amounts,
            budget_s=settings.budget_s,
            spent_s=self.budget.spent_s,
            finished=finished,
            rows=tuple(self.rows),
            validity=(*validity(state), *self._notes()),
        )
        write_campaign(campaign, settings.out)

    def _subject(self, name: str, folder: Path, sha256: str) -> str:
        """The name in the tables, with the folder where two names would be equal."""
        subject = f"{name} in {folder}" if name in self._subjects else name
        self._subjects[subject] = sha256[:_DIGITS]
        return subject

    def _job(
        self, module: str, runtime: str, folder: Path, subject: str, target: str | None, names: tuple[str, ...]
    ) -> Job:
        settings = self._settings
        order = Order(
            runtime=runtime,
            folder=str(folder),
            subject=subject,
            seconds=settings.budget_s,
            target=target,
            amounts=settings.amounts,
            engines=str(settings.engines) if settings.engines else None,
            threads=settings.threads,
        )
        absent = why_missing(order.runtime_name) if runtime in RUNTIMES else None
        return Job(module=f"{_ROOM}.{module}", order=order, names=names, absent=absent)

    def _notes(self) -> Iterator[str]:
        if self._settings.quick:
            yield "--quick: too little was measured to be quoted"
        if not self._gpu:
            yield "GPU clocks, temperature and power are not known: nvidia-smi is not here"
        for row in self.rows:
            if row.raw_ms and (note := withheld(len(row.raw_ms))):
                yield f"{row.runtime}, {row.subject}, {row.what}: {note}"


def run_campaign(settings: Settings) -> Run:
    """Measure everything and write the files; returns the run. Raises as `Run` and `Run.jobs`, before anything runs."""
    run = Run(settings)
    jobs = run.jobs()
    run.write()
    run_jobs(jobs, run.budget, run.put)
    run.write(finished=True)
    return run


def _device() -> tuple[CudaDevice | None, str | None]:
    try:
        return cuda_device(), None
    except MissingDependencyError as error:
        return None, str(error)


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            yield package, version(package)


def _gpu_state() -> Iterator[str]:
    """Clocks, temperature, power, use and memory of the first GPU from nvidia-smi; nothing where it is missing."""
    command = ["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode == 0 and done.stdout.strip():
        yield done.stdout.strip()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path.parent} is not a checkpoint: {path.name} cannot be read: {error.strerror}") from error


def _told(row: Row) -> str:
    if row.reason is not None:
        return f"not measured: {row.reason}"
    share = "" if row.share is None else f", {row.share:.3f} of {row.limit}"
    return f"{'' if row.value is None else f'{row.value:.4g} {row.unit}'}{share} {row.found}".strip()


def _settings(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(prog="device-campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for campaign.json and campaign.md")
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="bundle folder; the demo by default")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="its shapes, by transformers")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES), help="of trt, rtx, ort-cuda, ort")
    parser.add_argument("--forms", default=",".join(FORMS), help="ways of transformers")
    parser.add_argument("--tokens", type=int, help="tokens that are decoded")
    parser.add_argument("--context", type=int, help="tokens that are prefilled")
    parser.add_argument("--target", help="whose limits count, where they are not found; see `edge-sdk plan`")
    parser.add_argument("--engines", type=Path, help="folder of engines; the user's cache by default")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 leaves them to the runtime")
    parser.add_argument("--quick", action="store_true", help="see that everything runs")
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds for all of it")
    chosen = parser.parse_args(arguments)
    given = {name: getattr(chosen, name) for name in ("tokens", "context") if getattr(chosen, name) is not None}
    return Settings(
        out=chosen.out,
        bundles=tuple(chosen.bundle),
        checkpoints=tuple(chosen.checkpoint),
        runtimes=_of(chosen.runtimes, RUNTIMES, "runtime"),
        forms=_of(chosen.forms, FORMS, "form"),
        target=chosen.target,
        engines=chosen.engines,
        threads=chosen.threads,
        amounts=msgspec.structs.replace(QUICK if chosen.quick else Amounts(), **given),
        quick=chosen.quick,
        budget_s=chosen.budget_s,
    )


def _of(text: str, known: dict[str, tuple[str, ...]] | dict[str, tuple[str, str]], what: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    for name in names:
        if name not in known:
            raise UnknownNameError(what, name, list(known))
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign from the command line; returns the exit code, which is 0 even if some rows were not measured."""
    try:
        settings = _settings(arguments)
        run = run_campaign(settings)
    except EdgeError as error:
        print(f"device-campaign: {error}", file=sys.stderr)
        return error.exit_code
    missing = sum(row.reason is not None for row in run.rows)
    print(f"{len(run.rows)} rows, {missing} not measured, {run.budget.spent_s:.0f} s: {settings.out / 'campaign.md'}")
    return 0


if __name__ == "__main__":
    # On SIGTERM, exit normally, so that the processes that were started are stopped too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
