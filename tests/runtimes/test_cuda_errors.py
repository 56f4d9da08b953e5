"""Which of CUDA's errors leave a process that can go on (CUDA Runtime API, `cudaError_t`)."""

from __future__ import annotations

import pytest

from edge_sdk.errors import DeviceLostError, MissingDependencyError, RuntimeFailure
from edge_sdk.runtimes.cuda_errors import cuda_error


@pytest.mark.parametrize(
    ("code", "name", "kind"),
    [
        (2, "cudaErrorMemoryAllocation", RuntimeFailure),
        (100, "cudaErrorNoDevice", MissingDependencyError),
        (209, "cudaErrorNoKernelImageForDevice", RuntimeFailure),
        (214, "cudaErrorECCUncorrectable", DeviceLostError),
        (700, "cudaErrorIllegalAddress", DeviceLostError),
        (702, "cudaErrorLaunchTimeout", DeviceLostError),
        (715, "cudaErrorIllegalInstruction", DeviceLostError),
        (716, "cudaErrorMisalignedAddress", DeviceLostError),
        (719, "cudaErrorLaunchFailure", DeviceLostError),
    ],
)
def test_faults_that_stay_are_told_from_those_that_pass(code: int, name: str, kind: type[Exception]) -> None:
    error = cuda_error("cudaStreamSynchronize", code, name)
    assert type(error) is kind
    assert f"{name} ({code})" in str(error)
