"""The paper's numbers, and the scores of blind answers on its test split, with their sources.

The paper's numbers are those of the table images in the CrashChat repository (`figs/`, github.com/Liangkd/CrashChat at
af80e34). They hold for its test split: 1,839 videos, of which 1,162 show a crash. The blind rows were computed from
that split's public annotations. Recognition is macro. The paper does not say which ROUGE it means (1 or L).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_sdk.types import Value


class PublishedRow(Value, frozen=True, kw_only=True):
    """One published line of one task; its scores have the names of our own rows if they are the same metric."""

    name: str
    scores: dict[str, float]


_MACRO = ("macro_recall", "macro_precision", "macro_f1")
_TEXT = ("bleu4", "rouge_unstated", "bertscore_f1")
_SPAN = ("miou", "iou_30", "iou_50", "iou_70")


def _rows(names: tuple[str, ...], table: dict[str, tuple[float, ...]]) -> tuple[PublishedRow, ...]:
    return tuple(PublishedRow(name=row, scores=dict(zip(names, values, strict=True))) for row, values in table.items())


PAPER: Mapping[str, tuple[PublishedRow, ...]] = MappingProxyType(
    {
        "recognition": _rows(
            _MACRO,
            {
                "VideoLLaMA3-7B": (0.6732, 0.7332, 0.5791),
                "TimeChat-7B": (0.4978, 0.3779, 0.3150),
                "LLaMA-ViD-7B": (0.5799, 0.6651, 0.5612),
                "LLaMA-ViD-13B": (0.5761, 0.6520, 0.5578),
                "Qwen3-VL-32B": (0.6701, 0.7324, 0.5754),
                "CrashChat-7B, independent": (0.8839, 0.9395, 0.9024),
                "CrashChat-7B, homogeneous": (0.9306, 0.9621, 0.9433),
                "CrashChat-7B, heterogeneous": (0.9745, 0.9850, 0.9793),
            },
        ),
        "description": _rows(
            _TEXT,
            {
                "VideoLLaMA3-7B": (0.0221, 0.3805, 0.9099),
                "TimeChat-7B": (0.0005, 0.2078, 0.8769),
                "LLaMA-ViD-7B": (0.0015, 0.3688, 0.9281),
                "LLaMA-ViD-13B": (0.0004, 0.3656, 0.9280),
                "Qwen3-VL-32B": (0.0506, 0.4296, 0.9275),
                "CrashChat-7B, independent": (0.4320, 0.8175, 0.9736),
                "CrashChat-7B, homogeneous": (0.4421, 0.8366, 0.9760),
                "CrashChat-7B, heterogeneous": (0.4608, 0.8535, 0.9783),
            },
        ),
        "cause": _rows(
            _TEXT,
            {
                "VideoLLaMA3-7B": (0.1613, 0.3706, 0.9056),
                "TimeChat-7B": (0.0100, 0.1431, 0.8682),
                "LLaMA-ViD-7B": (0.0046, 0.0924, 0.8619),
                "LLaMA-ViD-13B": (0.1620, 0.3720, 0.9053),
                "Qwen3-VL-32B": (0.1374, 0.3873, 0.9056),
                "CrashChat-7B, independent": (0.2568, 0.5285, 0.9244),
                "CrashChat-7B, homogeneous": (0.2729, 0.5304, 0.9253),
                "CrashChat-7B, heterogeneous": (0.3158, 0.5683, 0.9326),
            },
        ),
        "prevention": _rows(
            _TEXT,
            {
                "VideoLLaMA3-7B": (0.0030, 0.3712, 0.8920),
                "TimeChat-7B": (0.0052, 0.1409, 0.8501),
                "LLaMA-ViD-7B": (0.0030, 0.3699, 0.8920),
                "LLaMA-ViD-13B": (0.0030, 0.3712, 0.8920),
                "Qwen3-VL-32B": (0.0173, 0.3800, 0.8929),
                "CrashChat-7B, independent": (0.1882, 0.5386, 0.9227),
                "CrashChat-7B, homogeneous": (0.1970, 0.5568, 0.9268),
                "CrashChat-7B, heterogeneous": (0.2380, 0.5559, 0.9249),
            },
        ),
        "crash_interval": _rows(
            _SPAN,
            {
                "VideoLLaMA3-7B": (0.1636, 0.1885, 0.0602, 0.0129),
                "TimeChat-7B": (0.1752, 0.2496, 0.0990, 0.0310),
                "LLaMA-ViD-7B": (0.0474, 0.0706, 0.0267, 0.0060),
                "LLaMA-ViD-13B": (0.0485, 0.0671, 0.0284, 0.0095),
                "Qwen3-VL-32B": (0.1897, 0.2883, 0.1368, 0.0284),
                "CrashChat-7B, independent": (0.5344, 0.7883, 0.5749, 0.3201),
                "CrashChat-7B, homogeneous": (0.5456, 0.8003, 0.5998, 0.3348),
                "CrashChat-7B, heterogeneous": (0.4608, 0.7031, 0.4785, 0.2229),
            },
        ),
        "pre_crash_time": _rows(
            _SPAN,
            {
                "VideoLLaMA3-7B": (0.2418, 0.2995, 0.2435, 0.1850),
                "TimeChat-7B": (0.2043, 0.2410, 0.2117, 0.1670),
                "LLaMA-ViD-7B": (0.0338, 0.0491, 0.0293, 0.0189),
                "LLaMA-ViD-13B": (0.0342, 0.0491, 0.0301, 0.0207),
                "Qwen3-VL-32B": (0.2638, 0.3348, 0.2556, 0.1764),
                "CrashChat-7B, independent": (0.4351, 0.5207, 0.4518, 0.3761),
                "CrashChat-7B, homogeneous": (0.5018, 0.5886, 0.5293, 0.4355),
                "CrashChat-7B, heterogeneous": (0.3148, 0.3726, 0.3305, 0.2668),
            },
        ),
    }
)
"""The paper's tables by task: four untuned models, and CrashChat with its three ways of sharing adapters."""

BLIND: Mapping[str, tuple[PublishedRow, ...]] = MappingProxyType(
    {
        "recognition": _rows(_MACRO, {"always yes": (0.5, 0.316, 0.387)}),
        "description": (
            PublishedRow(name="always 'no collision.'", scores={"rouge1_f": 0.3681}),
            PublishedRow(name="always 'ego-car hits a car'", scores={"bleu4": 0.2730, "rouge1_f": 0.4661}),
            PublishedRow(name="right yes/no, commonest answer", scores={"bleu4": 0.387, "rouge1_f": 0.834}),
        ),
        "cause": (
            PublishedRow(name="always the negative", scores={"bleu4": 0.1620, "rouge1_f": 0.3725, "rougeL_f": 0.3725}),
            PublishedRow(name="right yes/no, commonest answer", scores={"bleu4": 0.222, "rouge1_f": 0.544}),
        ),
        "prevention": (
            PublishedRow(name="always the negative", scores={"bleu4": 0.0030, "rouge1_f": 0.3707}),
            PublishedRow(
                name="right yes/no, commonest answer", scores={"bleu4": 0.195, "rouge1_f": 0.599, "rougeL_f": 0.549}
            ),
        ),
        "crash_interval": (
            PublishedRow(name="always 3.0 - 7.0 seconds", scores={"miou": 0.2439}),
            PublishedRow(name="every answer right", scores={"miou": 0.9966}),
        ),
        "pre_crash_time": (
            PublishedRow(name="always 3.0 seconds", scores={"miou": 0.2874}),
            PublishedRow(name="1.5 s before the true crash start", scores={"miou": 0.726}),
        ),
    }
)
"""Scores by task of blind answers (some know the label) on the paper's test split."""
