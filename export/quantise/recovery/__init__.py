"""Train LoRA matrices further beside a quantised base, so that together they answer like the exact model."""
