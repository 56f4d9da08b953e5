"""An export before it becomes a bundle, as the input from which its references are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk.bundle.manifest import Graph
from edge_sdk.bundle.manifest_language import Language
from edge_sdk.export.adapters import Adapter
from edge_sdk.export.checkpoint import Weights


@dataclass(frozen=True)
class Exported:
    """Graphs and component as they go into the manifest, without references, and the adapters they were made with.

    The tokenizer and the prompts of `language` lie at their paths below `folder`; other files of the bundle need not.
    `adapters` are those of `language.adapters` by name, without an entry for the plain checkpoint. The decoder's
    `lora_rank` tells where an adapter is: 0 in the weights, more than 0 among the inputs. `models` are the weights of
    adapters that are not the sum of checkpoint and adapter, such as quantised ones.
    """

    folder: Path
    graphs: Mapping[str, Graph]
    language: Language
    adapters: Mapping[str, Adapter]
    models: Mapping[str, Weights] = field(default_factory=dict)
