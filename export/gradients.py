"""The check of a training step's gradients, before they change any weight."""

from __future__ import annotations

from torch import Tensor

from edge_sdk.errors import RuntimeFailure


def check_finite(norm: Tensor, step: int, remedy: str) -> None:
    """Raise `RuntimeFailure` if `norm`, that of the gradients at `step` (from 0), is not finite.

    Call it before the optimiser: no checkpoint must hold the weights that would result. `remedy` names the settings of
    the recipe to change.
    """
    if not norm.isfinite():
        raise RuntimeFailure(f"expected finite gradients, found a norm of {float(norm)} at step {step + 1}; {remedy}")
