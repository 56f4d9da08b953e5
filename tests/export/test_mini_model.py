"""The mini's arithmetic against transformers' own: the tower in batches of frames, answers packed behind one prefix."""

from __future__ import annotations

import mini_material
import numpy as np
import pytest
import torch

from edge_sdk.export.mini.examples import NO_TARGET, Writer, branch_mask, collate
from edge_sdk.export.mini.model import Tower, make_model, merge, parameters
from edge_sdk.export.mini.questions import Pair
from edge_sdk.export.mini.recipe import Stage, Windows, load_recipe
from edge_sdk.export.mini.speaking import SpeakingLearner
from edge_sdk.export.mini.training import make_optimisers
from edge_sdk.export.mini.tuning import wrap
from edge_sdk.export.mini.vocabulary import train_vocabulary
from edge_sdk.export.mini.windows import draw_shot, whole
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.reasoning.text import Tokenizer

PAIRS: list[Pair] = [("Does anything touch?", "At 4.3s."), ("What is to be seen?", "Dashcam, night.")]
RECIPE = mini_material.small_recipe()
PROFILE = find_profile("24f")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_vocabulary([text for pair in PAIRS for text in pair] * 3, 2048))


@pytest.mark.parametrize("name", ["language-mini", "language-mini-long", "language-onward", "language-adapters"])
def test_a_committed_recipe_has_three_to_four_million_parameters(tokenizer: Tokenizer, name: str) -> None:
    recipe, _ = load_recipe(name)
    assert 3_000_000 <= parameters(make_model(recipe.sizes, tokenizer.control)) <= 4_000_000
    assert recipe.sizes.hidden // recipe.sizes.heads in (48, 64)
    assert recipe.linguistic.alpha / recipe.linguistic.rank == recipe.perception.alpha / recipe.perception.rank == 0.25


def test_a_batch_of_frames_is_transformers_tower(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model = make_model(RECIPE.sizes, tokenizer.control).eval()
    patches = torch.randint(0, 256, (3, 60, 588), dtype=torch.uint8)
    with torch.no_grad():
        found = merge(Tower(RECIPE.sizes, PROFILE).patches_to_states(model.model.vision_model, patches))
        native = model.model.vision_model(
            pixel_values=(patches.float() / 255 - 0.5).flatten(0, 1) / 0.5,
            grid_thw=torch.tensor([[3, 6, 10]]),
            merge_sizes=torch.tensor([2]),
        ).last_hidden_state
    torch.testing.assert_close(found.flatten(0, 1), native, atol=1e-5, rtol=1e-5)


def test_answers_packed_behind_one_prefix_are_separate_sequences(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model = make_model(RECIPE.sizes, tokenizer.control).eval()
    tower = Tower(RECIPE.sizes, PROFILE)
    writer, learner = Writer(tokenizer, tower), SpeakingLearner(model, tower, 32, tokenizer.control.image)
    [clip, *_] = mini_material.clips(1)
    shot = whole(clip, PROFILE)
    packed = collate([writer.example(clip, shot, PAIRS), writer.example(clip, shot, PAIRS[:1])])
    patches = packed["patches"]
    with torch.no_grad():
        hidden = learner.hidden(packed)
        for number, pair in enumerate(PAIRS, start=1):
            alone = collate([writer.example(clip, shot, [pair])])
            native = model(
                input_ids=alone["ids"],
                pixel_values_videos=(patches[0].float() / 127.5 - 1).flatten(0, 1),
                video_grid_thw=torch.tensor([[24, 6, 10]]),
                video_merge_sizes=torch.tensor([2]),
            ).logits[0]
            wanted = alone["targets"][0] != NO_TARGET
            branch = (packed["branches"][0] == number) & (packed["targets"][0] != NO_TARGET)
            found = model.lm_head(hidden[0][branch])
            torch.testing.assert_close(found, native[wanted], atol=1e-4, rtol=1e-4)


def test_an_answer_and_its_end_are_what_is_learnt(tokenizer: Tokenizer) -> None:
    [clip, *_] = mini_material.clips(1)
    writer = Writer(tokenizer, Tower(RECIPE.sizes, PROFILE))
    example = writer.example(clip, whole(clip, PROFILE), PAIRS)
    said = [*tokenizer.encode("At 4.3s."), tokenizer.control.im_end]
    first = example.targets[(example.branches == 1) & (example.targets != NO_TARGET)]
    assert first.tolist() == [int(token) for token in said]
    assert example.positions[example.branches == 1][0] == example.positions[example.branches == 2][0]
    np.testing.assert_allclose([example.weights[example.branches == n].sum() for n in (1, 2)], 1, rtol=1e-5)
    assert len(example.frame_ends) == 24
    assert (example.ids[example.frame_ends] == tokenizer.control.image).all()


def test_nothing_sees_padding_or_another_branch() -> None:
    mask = branch_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0]
    assert mask[3].tolist() == [True, True, True, True, False, False]
    assert mask[4].tolist() == [True, True, False, False, True, False]
    assert not mask[:5, 5].any()
    assert mask.any(1).all()


def test_a_toy_overfits_what_it_sees(tokenizer: Tokenizer) -> None:
    """Two clips of noise, asked the same: only their pictures tell which answer is right."""
    torch.manual_seed(0)
    tower, [calm, crash] = Tower(RECIPE.sizes, PROFILE), mini_material.clips(2)
    model = make_model(RECIPE.sizes, tokenizer.control)
    learner = SpeakingLearner(model, tower, 32, tokenizer.control.image, RECIPE.language.auxiliary)
    writer, windows = Writer(tokenizer, tower), Windows(whole=0.0, least_s=0.5, frames=4)
    random = np.random.default_rng(0)
    shots = [draw_shot(clip, PROFILE, windows, random) for clip in (calm, crash)]
    said = [("Does anything touch?", answer) for answer in ("At 4.3s.", "Dashcam, night.")]
    batch = collate([writer.example(calm, shots[0], said[:1]), writer.example(crash, shots[1], said[1:])])
    stage = Stage(steps=130, batch=2, learning_rate=4e-3, muon=True)
    optimisers = make_optimisers(learner, stage)
    for _ in range(stage.steps):
        learner(batch).backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    wanted = batch["targets"] != NO_TARGET
    with torch.no_grad():
        found = model.lm_head(learner.hidden(batch)[wanted])
    assert torch.nn.functional.cross_entropy(found, batch["targets"][wanted]) < 0.05
    torch.testing.assert_close(found.argmax(-1), batch["targets"][wanted])


def test_every_part_learns(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    tower, [_, crash] = Tower(RECIPE.sizes, PROFILE), mini_material.clips(2)
    model = make_model(RECIPE.sizes, tokenizer.control)
    learner = SpeakingLearner(model, tower, 32, tokenizer.control.image, RECIPE.language.auxiliary)
    shot = whole(crash, PROFILE)
    batch = collate([Writer(tokenizer, tower).example(crash, shot, PAIRS)])
    learner(batch).backward()
    still = {name for name, each in learner.named_parameters() if each.grad is None or not each.grad.any()}
    assert not still
    scale = [model.model.projector(torch.randn(100, 32)).std(), model.model.language_model.embed_tokens.weight.std()]
    assert 0.2 < scale[0] / scale[1] < 5, "image rows and words should be of one size"


def test_a_frozen_tower_goes_where_its_learner_goes(tokenizer: Tokenizer) -> None:
    """To another element type here, which like another device no tensor may be left behind from."""
    tower, [_, crash] = Tower(RECIPE.sizes, PROFILE), mini_material.clips(2)
    base = make_model(RECIPE.sizes, tokenizer.control)
    tuned, image = wrap(base, RECIPE.linguistic), tokenizer.control.image
    learner = SpeakingLearner(tuned, tower, 32, image, frozen=base.model.vision_model)
    asked = {name for name, each in learner.named_parameters() if each.requires_grad}
    assert asked == {f"model.{name}" for name, each in tuned.named_parameters() if each.requires_grad}
    batch = collate([Writer(tokenizer, tower).example(crash, whole(crash, PROFILE), PAIRS)])
    expected = learner.eval()(batch)
    found = learner.to(torch.float64)(batch)
    torch.testing.assert_close(found.float(), expected.float(), rtol=1e-4, atol=1e-4)
    assert all(each.dtype == torch.float32 for each in base.parameters()), "the base is another adapter's too"
