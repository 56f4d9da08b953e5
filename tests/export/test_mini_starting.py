"""Where heads look before they have learnt: found from the attention of transformers' own modules."""

from __future__ import annotations

import mini_material
import torch

from edge_sdk.export.graphs.vision import turn
from edge_sdk.export.mini.model import Tower, make_model
from edge_sdk.export.mini.recipe import load_recipe
from edge_sdk.export.mini.starting import aim_decoder, aim_tower
from edge_sdk.export.mini.targets import patch_corners
from edge_sdk.reasoning.grid import find_profile
from edge_sdk.reasoning.text import ControlTokens

RECIPE, _ = load_recipe("language-mini")
CONTROL = ControlTokens(im_start=0, im_end=1, image=2)
PROFILE = find_profile("24f")


def test_heads_of_the_tower_look_at_neighbours() -> None:
    torch.manual_seed(0)
    model, tower = make_model(RECIPE.sizes, CONTROL), Tower(RECIPE.sizes, PROFILE)
    aim_tower(model.model.vision_model, RECIPE.sizes.heads)
    layer = model.model.vision_model.encoder.layers[0].self_attn
    x = torch.nn.functional.layer_norm(torch.randn(60, RECIPE.sizes.hidden), [RECIPE.sizes.hidden])
    query, key = (
        turn(part(x).unflatten(1, (4, 48)).transpose(0, 1), tower._cos, tower._sin)
        for part in (layer.q_proj, layer.k_proj)
    )
    seen = (query @ key.transpose(1, 2) / 48**0.5).softmax(-1)
    left, top = (torch.from_numpy(places) for places in patch_corners(tower.grid))
    for head, (down, right) in enumerate(((0, -1), (0, 1), (-1, 0), (1, 0))):
        apart = (left - (left[:, None] + right / 10)).abs() + (top - (top[:, None] + down / 6)).abs()
        there = apart.min(1).values < 1e-6
        chosen = apart.argmin(1)
        assert (seen[head].argmax(1) == chosen)[there].float().mean() > 0.7


def test_heads_of_the_decoder_look_at_the_frame_before() -> None:
    torch.manual_seed(0)
    model = make_model(RECIPE.sizes, CONTROL)
    decoder = model.model.language_model
    aim_decoder(decoder, RECIPE.sizes.kv_heads, frame_tokens=22, columns=5)
    decoder.config._attn_implementation = "eager"
    with torch.no_grad():
        found = decoder(inputs_embeds=0.06 * torch.randn(1, 120, RECIPE.sizes.hidden), output_attentions=True)
    for layer, offsets in enumerate(((22, 23, 21, 5), (22, 27, 17, 1), (44, 22))):
        for head, offset in enumerate(offsets):
            seen = found.attentions[layer][0, head, 60:].argmax(1)
            assert (seen == torch.arange(60, 120) - offset).float().mean() > 0.7


def test_a_narrow_model_can_be_aimed() -> None:
    sizes = mini_material.small_recipe().sizes
    model = make_model(sizes, CONTROL)
    aim_tower(model.model.vision_model, sizes.heads)
    aim_decoder(model.model.language_model, sizes.kv_heads, frame_tokens=22, columns=5)
    assert model.model.language_model.layers[0].self_attn.q_proj.bias.any()
