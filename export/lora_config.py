"""Read an adapter's `adapter_config.json`, in any version of peft.

peft has many variants of LoRA, and each release adds settings. Only settings known to have no effect on the sum
W + s·B·A are accepted; any other is refused by its name, even if it is newer than this code.
"""

from __future__ import annotations

import math
from pathlib import Path

from edge_sdk.export.config_file import Section, read_json
from edge_sdk.types import Value

CONFIG_FILE = "adapter_config.json"

_READ = frozenset({"base_model_name_or_path", "bias", "lora_alpha", "peft_type", "r", "target_modules", "use_rslora"})
# Settings for training or bookkeeping, or that only choose modules, which the tensors themselves show.
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    }
)
# These leave the base's weights unchanged; the others (PiSSA, OLoRA, LoftQ, CorDA, ...) modify them before training.
_PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal", "mica")


class LoraConfig(Value, frozen=True, kw_only=True):
    """Rank and scale of an adapter, the modules it adapts, and the base model it names.

    `targets`: suffixes of module names, each adapted in every layer; empty where the file does not list them so (it
    has a pattern, or a choice of layers).
    """

    rank: int
    alpha: float
    scale: float
    targets: tuple[str, ...]
    base: str

    @classmethod
    def read(cls, folder: Path) -> LoraConfig:
        """The settings in `folder`. Raises `CheckpointError` naming a setting that cannot be honoured."""
        section = Section(folder / CONFIG_FILE, read_json(folder / CONFIG_FILE))
        section.only("peft_type", "LORA", default=None)
        section.only("init_lora_weights", *_PLAIN_INITS, default=True)
        section.only("bias", "none", default="none")
        for key in section.all_keys():
            if key not in _READ | _WITHOUT_EFFECT and section.get(key):
                raise section.wrong(f"{key} must be off", section.get(key), unsupported=True)
        rank, alpha = section.integer("r"), section.number("lora_alpha")
        return cls(
            rank=rank,
            alpha=alpha,
            scale=alpha / (math.sqrt(rank) if section.flag("use_rslora", False) else rank),
            targets=_targets(section),
            base=section.text("base_model_name_or_path", ""),
        )

    def targets_module(self, module: str) -> bool:
        """Whether the file says that this module is adapted."""
        return any(module == target or module.endswith(f".{target}") for target in self.targets)


def _targets(section: Section) -> tuple[str, ...]:
    found = section.get("target_modules")
    if isinstance(found, str):
        return ()
    if not isinstance(found, list) or not found or not all(isinstance(item, str) for item in found):
        raise section.wrong("target_modules must be a list of modules or a pattern", found)
    chosen = any(section.get(key) for key in ("exclude_modules", "layers_to_transform"))
    return () if chosen else tuple(found)
