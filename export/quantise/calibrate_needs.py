"""Check a calibration's folders and the disk space that it needs, before the first clip is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import ConfigError
from edge_sdk.export.export_needs import Needs, check_disk, same_disk
from edge_sdk.export.stage_store import Stage, StageStore
from edge_sdk.files import check_new

# Folder in the work folder with this calibration's own statistics, before others are added.
PART = "statistics"


def check_folders(out: Path, work: Path) -> None:
    """Raise `ConfigError` where `out` exists, or where it would collide with `work`."""
    check_new(out)
    result, place = out.resolve(), work.resolve()
    if result == place or result in place.parents or result == place / PART:
        raise ConfigError(
            f"--work {work}: expected a folder outside --out {out}, which must not exist before the end; "
            "choose another --work"
        )


def check_room(store: StageStore, layers: Sequence[Stage], out: Path, *, added: bool, beside_bytes: int = 0) -> None:
    """Raise `ConfigError`, with both numbers, where the disks have no room for the statistics of `layers`.

    Finished layers need no room. `out` hard-links the files where it is on the work folder's disk, unless other
    statistics are `added`. States of `beside_bytes` lie in the work folder during the run.
    """
    todo = [stage for stage in layers if store.receipt(stage) is None]
    whole, linked = sum(stage.size_bytes for stage in layers), same_disk(store.folder, out)
    copied = whole if added or not linked else 0
    # Files that a stopped run has left will be replaced, so their space counts as free.
    left = sum(path.stat().st_size for path in store.folder.glob("states.*/*")) + sum(map(store.reclaimable, todo))
    work = sum(stage.size_bytes for stage in todo) + (beside_bytes if todo else 0) - left
    # Memory is not checked here.
    needs = Needs(work=max(0, work + (copied if linked else 0)), out=0 if linked else copied, bundle=whole, memory=0)
    check_disk(needs, store.folder, out)


def take_over(source: Path, target: Path) -> None:
    """Hard-link the file `source` as `target`, so that the disk holds it once; copy it where linking fails."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
