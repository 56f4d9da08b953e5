"""Making the student: a recipe and labelled clips in, a bundle out."""

from __future__ import annotations

from edge_sdk.export.distil.recipe import Recipe, load_recipe
from edge_sdk.export.distil.student import train

__all__ = ["Recipe", "load_recipe", "train"]
