"""The decoder on the TensorRT runtime: prefill and decode are two profiles of one engine, the cache stays where it is.

Memory and kernels are doubles, as in `tests/runtimes/test_trt.py`; what the runtime decides must give, logit for logit,
what ONNX Runtime gives on its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_makers import save, tiny_model
from decoder_loop import Loop, lively, oracle_embeds
from host_cuda import HostCuda
from host_engine import HostEngine
from ort_graphs import Exported

from edge_sdk.engine.tensorrt_library import TensorRT, problem_log
from edge_sdk.export.checkpoint import Checkpoint
from edge_sdk.export.graphs.decoder_io import DecoderForm
from edge_sdk.runtime import Array, Feeds
from edge_sdk.runtimes.trt import TrtSession
from edge_sdk.runtimes.trt_engine import Loaded
from edge_sdk.runtimes.trt_lane import WARM_CALLS
from edge_sdk.types import Dialect

module = pytest.importorskip("tensorrt_rtx", reason="its enumerations stand for TensorRT's")

SLOTS, CHUNK, TOKENS, RANK = 96, 16, 12, 3


class Fed:
    """A bound state with inputs that are the same arrays in every call."""

    def __init__(self, bound: Any, fixed: dict[str, Array]) -> None:
        self.bound, self.fixed = bound, fixed

    def run(self, feeds: Feeds) -> dict[str, Array]:
        found: dict[str, Array] = self.bound.run({**feeds, **self.fixed})
        return found


def prefilled_and_decoded(caller: Fed, embeds: Array, table: Array) -> list[Array]:
    """Logits of a prompt in chunks, then of the most likely tokens one by one."""
    prefill, decode = Loop(caller, SLOTS, CHUNK), Loop(caller, SLOTS, 1)
    found = [prefill.extend(embeds)]
    decode.used = prefill.used
    for _ in range(TOKENS):
        found.append(decode.extend(table[found[-1][-1].argmax()][None]))
    return found


@pytest.mark.parametrize("dialect", ["native", "decomposed"])
@pytest.mark.parametrize("rank", [0, RANK])
def test_prefill_and_decode_give_the_same_logits(tmp_path: Path, dialect: Dialect, rank: int) -> None:
    model = lively(tiny_model())
    weights = Checkpoint.open(save(model, tmp_path / "model"))
    (tmp_path / "graphs").mkdir()
    exported = Exported(weights, tmp_path / "graphs")
    graph = exported.decoder(DecoderForm(dialect=dialect, slots=SLOTS, lora_rank=rank))
    ort, entry = exported.open(graph)
    cuda, lengths = HostCuda(), {"q": (1, 1, 8), "r": (1, 8, 8)}
    engine = HostEngine(
        module, tmp_path / "graphs" / entry.file, entry, [lengths, {"q": (1, 16, 16), "r": (1, 16, 16)}], cuda
    )
    tensorrt = TensorRT(flavour="trt", module=module, version="10.16.2")
    session = TrtSession(Loaded("decoder", tensorrt, engine, problem_log(tensorrt)), entry, cuda)
    random = np.random.default_rng(0)
    matrices = {
        spec.name: np.frombuffer(random.normal(size=spec.shape).astype(np.float32).tobytes(), np.float32).reshape(
            [int(length) for length in spec.shape]
        )
        for spec in entry.inputs
        if spec.name.startswith("lora.")
    }
    embeds, table = oracle_embeds(model), weights.tensor("decoder.embed_tokens.weight").numpy()
    bound = session.bind_state(entry.state, {})
    found = prefilled_and_decoded(Fed(bound, matrices), embeds, table)
    expected = prefilled_and_decoded(Fed(ort.bind_state(entry.state, {}), matrices), embeds, table)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert cuda.launches >= TOKENS - WARM_CALLS
    decode, prefill = sorted(engine.contexts, key=lambda context: context.profile or 0)
    assert (decode.runs, prefill.runs) == (WARM_CALLS + 1, -(-len(embeds) // CHUNK))
    if dialect == "native":
        cuda.copied.clear()
        Loop(Fed(bound, matrices), SLOTS, 1).extend(embeds[:1])
        assert len(cuda.copied) == 5 + 1  # embeds, positions, mask, index and rows; logits; no matrix of an adapter
