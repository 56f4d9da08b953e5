"""A campaign as files: `campaign.json` with every raw value, `campaign.md` with the tables.

Both are written whole after each row, so that a killed run keeps its results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_sdk.benchmarks.campaign.order import Amounts
from edge_sdk.benchmarks.campaign.rows import Row
from edge_sdk.benchmarks.report import MachineState
from edge_sdk.cli.doctor import Check
from edge_sdk.files import write_json, write_text
from edge_sdk.hardware.cuda import CudaDevice
from edge_sdk.types import Value

SCHEMA = 1
# Fields to query from nvidia-smi.
GPU_FIELDS = "clocks.sm,clocks.max.sm,temperature.gpu,power.draw,utilization.gpu,memory.used"
_NOTHING = "n/a"


class Campaign(Value, frozen=True, kw_only=True):
    """A whole run. `targets` are those of GPU and CPU, None where unknown; `gpu` is the output of nvidia-smi.

    `subjects` are bundles and checkpoints with their identity: a manifest's or configuration's SHA-256. `finished` is
    false in the files of a killed run.
    """

    schema: int = SCHEMA
    started_utc: str
    commit: str | None
    device: CudaDevice | None
    why_no_device: str | None
    targets: tuple[str | None, str | None]
    machine: MachineState
    facts: tuple[Check, ...]
    gpu: tuple[str, ...]
    versions: dict[str, str]
    subjects: dict[str, str]
    amounts: Amounts
    budget_s: float
    spent_s: float
    finished: bool
    rows: tuple[Row, ...]
    validity: tuple[str, ...]


def write_campaign(campaign: Campaign, folder: Path) -> None:
    """Write both files, each atomically."""
    write_json(folder / "campaign.json", campaign, indent=1)
    write_text(folder / "campaign.md", "\n".join(_lines(campaign)) + "\n")


def _lines(campaign: Campaign) -> Iterator[str]:
    yield from ("# Device campaign", "")
    yield from _conditions(campaign)
    questions = [row for row in campaign.rows if row.runtime == "rtx?"]
    checks = [row for row in campaign.rows if row.what in ("engines", "outputs", "answers")]
    speed = [row for row in campaign.rows if row not in questions and row not in checks]
    yield from ("", "## Does TensorRT-RTX run on this GPU?", "")
    yield from _table("question | answer | found | how", map(_question, questions))
    yield from ("", "## Engines, and parity with the bundle's reference", "")
    yield from _table("runtime | subject | what | value | right | found | how", map(_check, checks))
    yield from ("", "## Speed", "", _RULE, "")
    yield from _table(
        "runtime | subject | what | value | p50 ms | p99 ms | share | of | goal | floor | how", _speeds(speed)
    )
    yield from ("", "## What is installed here", "")
    yield from _table("what | state | found", ((each.name, each.status, each.found) for each in campaign.facts))


_RULE = (
    "Times run from the host's pageable memory to results in the host's memory, after a warm-up; values are all units "
    "over all time. p99 needs 662 samples, p50 needs 11 (`benchmarks/measure.py`). Shares are of the nominal peak or "
    "bandwidth: prefill counts two operations a weight and token and the attention to earlier tokens, decode the bytes "
    "of weights and of the attended cache. transformers runs random weights of the checkpoint's shapes."
)


def _conditions(campaign: Campaign) -> Iterator[str]:
    machine, device = campaign.machine, campaign.device
    gpu = f"{device.name}, sm_{device.sm}, CUDA {device.driver}" if device else f"no GPU: {campaign.why_no_device}"
    yield f"{campaign.started_utc}, commit {campaign.commit or 'unknown'}; {gpu}; "
    yield f"{machine.cpu_model or 'unknown CPU'}, {machine.cores} cores, {machine.os}. "
    yield f"Targets: GPU {campaign.targets[0] or 'unknown'}, CPU {campaign.targets[1] or 'unknown'}. "
    yield f"Budget {campaign.budget_s:.0f} s, spent {campaign.spent_s:.0f} s, "
    yield "finished." if campaign.finished else "**not finished: what is missing was not reached.**"
    yield f"\nVersions: {', '.join(f'{name} {number}' for name, number in campaign.versions.items())}."
    yield f"\nSubjects: {'; '.join(f'{name}: {digest}' for name, digest in campaign.subjects.items())}."
    yield f"\nGPU ({GPU_FIELDS}), at the beginning and behind each measurement: "
    yield f"{' / '.join(campaign.gpu) or 'nvidia-smi is not here'}."
    yield f"\nValidity: {'; '.join(campaign.validity) or 'nothing to note'}."


# object: a cell is anything that can be converted to text.
def _table(head: str, rows: Iterable[Iterable[object]]) -> Iterator[str]:
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if not lines:
        yield "Nothing."
        return
    yield f"| {head} |"
    yield "|" + "---|" * len(head.split("|"))
    yield from lines


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "/").split())


def _question(row: Row) -> tuple[object, ...]:
    answer = {True: "yes", False: "no", None: "not known"}[row.ok]
    return row.what, answer, row.reason or row.found, row.method


def _check(row: Row) -> tuple[object, ...]:
    right = {True: "yes", False: "**NO**", None: ""}[row.ok]
    return row.runtime, row.subject, row.what, _value(row), right, row.reason or row.found, row.method


def _speeds(rows: Iterable[Row]) -> Iterator[tuple[object, ...]]:
    for row in rows:
        if row.reason is not None:
            yield (
                row.runtime,
                row.subject,
                row.what,
                _NOTHING,
                *[""] * 4,
                _target(row.goal),
                _target(row.floor),
                row.reason,
            )
            continue
        times = [_number(row.percentiles_ms.get(name)) for name in ("p50", "p99")]
        share = _NOTHING if row.share is None else f"{row.share:.3f}{_verdict(row)}"
        goals = (_target(row.goal), _target(row.floor))
        yield row.runtime, row.subject, row.what, _value(row), *times, share, row.limit, *goals, row.method


def _verdict(row: Row) -> str:
    if row.share is None or row.goal is None or row.floor is None:
        return ""
    return " goal" if row.share >= row.goal else " floor" if row.share >= row.floor else " **below**"


def _value(row: Row) -> str:
    return _NOTHING if row.value is None else f"{_number(row.value)} {row.unit}"


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _target(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
