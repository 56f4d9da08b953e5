"""Memory of a build on a graphics card, which has its own, and on a board, which shares the machine's."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_sdk.bundle import default_bundle, open_bundle
from edge_sdk.errors import EngineError
from edge_sdk.export import build_needs
from edge_sdk.export.build_needs import require_card_memory, workspace_mb
from edge_sdk.hardware.cgroup import least_mb, memory_room_mb
from edge_sdk.hardware.cuda import CudaDevice
from edge_sdk.hardware.probes import observe

CARD = CudaDevice(name="a GPU", sm=89, multiprocessors=128, driver="13.0", memory_mb=24000.0, integrated=False)


def machine(patch: pytest.MonkeyPatch, device: CudaDevice | None, free_mb: float | None = None) -> None:
    patch.setattr(build_needs, "find_cuda_device", lambda: device)
    patch.setattr(build_needs, "card_free_mb", lambda: free_mb)


def test_a_kernel_gets_a_quarter_of_the_memory_that_it_runs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, CARD, 5000.0)
    assert workspace_mb(None) == 1250.0
    assert workspace_mb(300.0) == 300.0
    machine(monkeypatch, CARD)
    assert workspace_mb(None) == 6000.0
    here = least_mb(observe().memory_available_mb, memory_room_mb())
    assert here is not None
    for board in (replace(CARD, integrated=True), None):
        machine(monkeypatch, board, 5.0)
        assert workspace_mb(None) == pytest.approx(here / 4, rel=0.5)


def test_a_card_too_full_for_the_weights_is_told_before_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = open_bundle(default_bundle()).graph("student")
    files = path.stat().st_size  # the weights are inside
    machine(monkeypatch, CARD, files / 1e6 + 0.001)
    require_card_memory(path)
    machine(monkeypatch, CARD, files / 1e6 - 0.001)
    with pytest.raises(EngineError, match=r"of the graphics card's own memory, .* MB are free; .*--force"):
        require_card_memory(path)
    require_card_memory(path, force=True)
    machine(monkeypatch, replace(CARD, integrated=True), 0.0)
    require_card_memory(path)
