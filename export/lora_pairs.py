"""Sort the tensors of an adapter's files by the module that they adapt.

Each wrapper around a model in training adds a prefix to its names, and peft inserts the adapter's own name into some
(`lora_A.default.weight`). Both carry no information and are removed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from edge_sdk.errors import CheckpointError
from edge_sdk.export.layouts import LINEARS, PROJECTOR, some
from edge_sdk.export.shards import Tensors

_WRAPPERS = re.compile(r"^(?:base_model\.)?(?:model\.)*")
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")
_DECODER = re.compile(r"(?:language_model\.)?layers\.(\d+)\.([\w.]+)")
_VISION = re.compile(r"(?:vision_encoder|vision_model)\.")
_PROJECTOR = re.compile(r"(?:mm_projector|projector)\.readout\.(.+)")
_LINEAR_OF = {public: linear for linear, public in LINEARS.items()}

Place = tuple[int, str]  # layer, and one of LINEARS
Pair = tuple[str, str]  # names of A and of B in the file


def find_pairs(tensors: Tensors) -> tuple[dict[Place, Pair], int]:
    """The decoder's LoRA pairs, and the number of vision-tower pairs, which are checked to add nothing.

    Raises `CheckpointError` naming the tensor that is not half of a pair, adapts something else, or changes the tower.
    """
    pairs: dict[Place, Pair] = {}
    dropped = 0
    for module, pair in _by_module(tensors).items():
        decoder = _DECODER.fullmatch(module)
        if decoder and decoder[2] in _LINEAR_OF:
            pairs[int(decoder[1]), _LINEAR_OF[decoder[2]]] = pair
        elif _VISION.match(module):
            _prove_dead(tensors, pair[1])
            dropped += 1
        else:
            raise CheckpointError(
                f"{tensors.stored[pair[0]].where}: expected LoRA on the decoder's {', '.join(LINEARS)} alone, found it "
                f"on {module}; train without that module"
            )
    if not pairs:
        raise CheckpointError(f"{tensors.origin}: expected LoRA on the decoder, found {some(tensors.stored)}")
    return pairs, dropped


def find_projector(tensors: Tensors) -> dict[str, str]:
    """Names in the file of a projector's four tensors, by canonical name.

    Raises `CheckpointError` naming a tensor that is missing or that does not belong to a projector.
    """
    names: dict[str, str] = {}
    for name, stored in tensors.stored.items():
        found = _PROJECTOR.fullmatch(_WRAPPERS.sub("", name))
        canonical = f"projector.{found[1]}" if found else ""
        if canonical not in PROJECTOR or canonical in names:
            raise CheckpointError(
                f"{stored.where}: expected one projector and nothing else (mm_projector.readout.0 and .2), found this; "
                "train no other part in full"
            )
        names[canonical] = name
    if missing := set(PROJECTOR) - names.keys():
        raise CheckpointError(f"{tensors.origin}: expected a projector, missing: {some(missing)}; copy the file again")
    return {canonical: names[canonical] for canonical in PROJECTOR}


def _by_module(tensors: Tensors) -> Mapping[str, Pair]:
    halves: dict[str, dict[str, str]] = defaultdict(dict)
    for name, stored in tensors.stored.items():
        found = _LORA.fullmatch(_WRAPPERS.sub("", name))
        if not found:
            raise CheckpointError(
                f"{stored.where}: expected lora_A and lora_B weights alone, found this; other variants of LoRA and "
                "modules trained in full are not exported"
            )
        if found[2] in halves[found[1]]:
            raise CheckpointError(f"{stored.where}: found twice, under two prefixes; save one adapter alone")
        halves[found[1]][found[2]] = name
    for module, half in halves.items():
        if len(half) != 2:
            found_half = next(iter(half.values()))
            raise CheckpointError(
                f"{tensors.stored[found_half].where}: expected lora_A and lora_B for {module}, found this one alone; "
                "copy the file again"
            )
    return {module: (half["A"], half["B"]) for module, half in halves.items()}


def _prove_dead(tensors: Tensors, name: str) -> None:
    if bool(tensors.read(name).any()):
        raise CheckpointError(
            f"{tensors.stored[name].where}: expected zeros, since every adapter shares one frozen vision tower, found "
            "trained values; train with the tower frozen"
        )
