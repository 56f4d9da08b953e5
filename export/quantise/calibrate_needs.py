"""Where a calibration writes, and what that takes of the disk, said before the first clip is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import ConfigError
from edge_sdk.export.export_needs import Needs, check_disk, same_disk
from edge_sdk.export.stage_store import Stage, StageStore

# In the work folder: this calibration's own part of a sum.
PART = "statistics"


def check_folders(out: Path, work: Path) -> None:
    """Raise `ConfigError` where `out` is there, or could not be written beside what lies in `work`."""
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another folder or remove it")
    result, place = out.resolve(), work.resolve()
    if result == place or result in place.parents or result == place / PART:
        raise ConfigError(
            f"--work {work}: expected a folder apart from --out {out}, which must not be there until all is done; "
            "choose another --work"
        )


def check_room(store: StageStore, layers: Sequence[Stage], out: Path, *, added: bool, beside_bytes: int = 0) -> None:
    """Raise `ConfigError` where the disks have no room for the statistics of `layers`, with both numbers.

    Layers that are finished need none. `out` takes the files over where it is on the disk of the work folder, but not
    those of a sum with statistics that are `added`. States of `beside_bytes` lie in the work folder meanwhile.
    """
    todo = [stage for stage in layers if store.receipt(stage) is None]
    whole, linked = sum(stage.size_bytes for stage in layers), same_disk(store.folder, out)
    copied = whole if added or not linked else 0
    # What a run that was stopped has left makes room.
    left = sum(path.stat().st_size for path in store.folder.glob("states.*/*")) + sum(map(store.reclaimable, todo))
    work = sum(stage.size_bytes for stage in todo) + (beside_bytes if todo else 0) - left
    # Memory does not follow from the disk, and is not looked at.
    needs = Needs(work=max(0, work + (copied if linked else 0)), out=0 if linked else copied, bundle=whole, memory=0)
    check_disk(needs, store.folder, out)


def take_over(source: Path, target: Path) -> None:
    """Give the file `source` the name `target` too, so that the disk holds it once; a copy where that cannot be."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
