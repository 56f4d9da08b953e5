"""Sizes of the video LLM's parts, as a manifest states them and as plans are computed from them."""

from __future__ import annotations

from edge_sdk.types import Value


class VisionSizes(Value, frozen=True, kw_only=True):
    """Shape of the vision tower; VideoLLaMA3's SigLIP-NaViT by default, the same in its 2B and 7B."""

    layers: int = 27
    hidden: int = 1152
    heads: int = 16
    intermediate: int = 4304
    patch_values: int = 588

    @property
    def weights(self) -> int:
        """Values in the matrices: four of attention, two of the MLP, and the patch embedding."""
        layer = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return self.layers * layer + self.patch_values * self.hidden


class DecoderSizes(Value, frozen=True, kw_only=True):
    """Shape of the language model: grouped-query attention, gated MLP, and a head over the vocabulary."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int

    @property
    def weights(self) -> int:
        """Values in the matrices of all layers, without the head."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        """Values of the head; the embedding table has as many."""
        return self.vocab * self.hidden

    @property
    def kv_values(self) -> int:
        """Values that one token adds to the KV cache."""
        return self.layers * 2 * self.kv_heads * self.head_dim
