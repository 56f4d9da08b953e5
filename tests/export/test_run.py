"""What a step of training leaves behind: averages that forget where they began, and nothing that is no number."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from edge_sdk.errors import RuntimeFailure
from edge_sdk.export.distil.recipe import load_recipe
from edge_sdk.export.distil.run import Run, begin
from edge_sdk.export.graphs.student import Student


def a_run(average: float) -> Run:
    recipe, _ = load_recipe("student-demo")
    torch.manual_seed(0)
    return begin(Student(recipe.shape), recipe, average)


def share_of_the_first_steps(average: float, steps: int) -> float:
    """How much of the averaged weights is what they were after the first of `steps` steps."""
    run = a_run(average)
    weight, kept = next(run.model.parameters()), next(run.average.parameters())
    with torch.no_grad():
        weight.fill_(1.0)
        run.average.update_parameters(run.model)
        weight.fill_(0.0)
        for _ in range(steps - 1):
            run.average.update_parameters(run.model)
    return float(kept.detach().flatten()[0])


@pytest.mark.parametrize(("average", "steps"), [(0.98, 24), (0.95, 12), (0.99, 175)])
def test_a_short_run_ends_with_what_it_learnt_and_not_with_where_it_began(average: float, steps: int) -> None:
    expected = np.prod([min(average, (1 + n) / (10 + n)) for n in range(1, steps)])
    assert share_of_the_first_steps(average, steps) == pytest.approx(expected, rel=1e-4)
    assert expected < 1e-3 < average ** (steps - 1)


def test_a_long_run_averages_as_its_recipe_says() -> None:
    run = a_run(0.9)
    weight, kept = next(run.model.parameters()), next(run.average.parameters())
    with torch.no_grad():
        weight.fill_(0.0)
        for _ in range(200):
            run.average.update_parameters(run.model)
        weight.fill_(1.0)
        for _ in range(5):
            run.average.update_parameters(run.model)
    assert float(kept.detach().flatten()[0]) == pytest.approx(1 - 0.9**5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_no_numbers_end_a_run_before_its_weights_change(value: float) -> None:
    run = a_run(0.9)
    before = copy.deepcopy(run.model.state_dict())
    for parameter in run.model.parameters():
        parameter.grad = torch.full_like(parameter, value)
    with pytest.raises(RuntimeFailure, match=r"found a norm of (nan|inf) at step 1; lower the recipe's"):
        run.advance(2.0)
    assert run.step == 0
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
