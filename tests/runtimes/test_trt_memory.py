"""Too little memory, in the words that TensorRT has for it: the advice is about memory, not about the engine."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from host_cuda import HostCuda
from host_engine import HostEngine
from trt_doubles import ANY, WIDTH, module, normal

from edge_sdk.engine.tensorrt_library import TensorRT, problem_log, problems
from edge_sdk.errors import EngineError, RuntimeFailure
from edge_sdk.runtimes.trt import TrtSession
from edge_sdk.runtimes.trt_engine import Loaded, deserialize

TENSORRT = TensorRT(flavour="trt", module=module, version="10.3.0")
# As TensorRT logs them: its default allocator, its deserializer, the builder, the standard library behind them.
SHORT = [
    "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
    "[safeDeserialize.cpp::load::269] Error Code 2: OutOfMemory (no further information)",
    "Requested amount of GPU memory (1180463648 bytes) could not be allocated.",
    "std::bad_alloc",
]
OTHER = "Error Code 1: Serialization (Serialization assertion stdVersionRead == serializationVersion failed.)"
ADVICE = "close other programs on the GPU, bind a state with fewer slots or streams, or build with smaller limits"


def complain(log: Any, words: str) -> None:
    log.log(module.ILogger.Severity.ERROR, words)


def refusing(words: str) -> TensorRT:
    """A TensorRT that logs `words` and gives no engine."""

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, data: Any) -> None:
            complain(self.log, words)

    return TensorRT(flavour="trt", module=SimpleNamespace(Runtime=Runtime), version="10.3.0")


@pytest.mark.parametrize("words", SHORT)
def test_an_engine_for_which_memory_is_short_is_not_called_bad(tmp_path: Path, words: str) -> None:
    path = tmp_path / "large.engine"
    path.write_bytes(bytes(3_000_000))
    with pytest.raises(RuntimeFailure) as told:
        deserialize(path, refusing(words), problem_log(TENSORRT), "Orin")
    assert words in str(told.value)
    assert "alone take 3 MB" in str(told.value)
    assert str(told.value).endswith(ADVICE)
    assert "delete" not in str(told.value)


def test_an_engine_that_is_bad_is_not_called_large(tmp_path: Path) -> None:
    path = tmp_path / "bad.engine"
    path.write_bytes(b"engine")
    with pytest.raises(EngineError, match=r"Serialization.*build it again: .* --rebuild") as told:
        deserialize(path, refusing(OTHER), problem_log(TENSORRT), "Orin")
    assert ADVICE not in str(told.value)


@pytest.mark.parametrize(("words", "advised"), [(SHORT[0], True), (OTHER, False)])
def test_a_context_that_does_not_fit(
    running_sum: Any, monkeypatch: pytest.MonkeyPatch, words: str, advised: bool
) -> None:
    cuda, log = HostCuda(), problem_log(TENSORRT)
    engine = HostEngine(module, running_sum.path, running_sum.graph, (ANY,), cuda)
    monkeypatch.setattr(engine, "create_execution_context", lambda strategy: complain(log.logger, words))
    with pytest.raises(RuntimeFailure, match="toy: TensorRT cannot create an execution context: ") as told:
        TrtSession(Loaded("toy", TENSORRT, engine, log), running_sum.graph, cuda)
    assert (ADVICE in str(told.value)) == advised


def test_a_call_that_does_not_fit(running_sum: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, log = HostCuda(), problem_log(TENSORRT)
    engine = HostEngine(module, running_sum.path, running_sum.graph, (ANY,), cuda)
    session = TrtSession(Loaded("toy", TENSORRT, engine, log), running_sum.graph, cuda)
    feeds = {"x": normal(0, 2, WIDTH), "total": normal(1, 2, WIDTH)}
    monkeypatch.setattr(engine.contexts[0], "execute_async_v3", lambda stream_handle: complain(log.logger, SHORT[0]))
    with pytest.raises(RuntimeFailure, match=rf"it did not run: .*out of memory\); {ADVICE}$"):
        session.run(feeds)
    monkeypatch.undo()
    assert session.run(feeds)


def test_all_objects_of_a_package_have_one_logger(running_sum: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT keeps the first logger for the whole process; what it is told counts for the call that it came with."""
    first, second = problem_log(TENSORRT), problem_log(TENSORRT)
    assert first.logger is second.logger
    alive = weakref.ref(first.logger)
    complain(first.logger, OTHER)
    assert problems(second) == problems(first) == OTHER
    later = problem_log(TENSORRT)
    assert later.problems == []
    del first, second
    gc.collect()
    assert alive() is later.logger

    cuda = HostCuda()
    engine = HostEngine(module, running_sum.path, running_sum.graph, (ANY,), cuda)
    session = TrtSession(Loaded("toy", TENSORRT, engine, later), running_sum.graph, cuda)
    feeds = {"x": normal(0, 2, WIDTH), "total": normal(1, 2, WIDTH)}
    complain(later.logger, SHORT[0])  # of another session
    monkeypatch.setattr(engine.contexts[0], "execute_async_v3", lambda stream_handle: complain(later.logger, OTHER))
    with pytest.raises(RuntimeFailure, match="it did not run: Error Code 1: Serialization") as told:
        session.run(feeds)
    assert SHORT[0] not in str(told.value)


def test_very_many_errors_do_not_fill_the_memory() -> None:
    log = problem_log(TENSORRT)
    for number in range(10_000):
        complain(log.logger, str(number))
    assert log.problems[-1] == "9999"
    assert len(log.problems) <= 1000
