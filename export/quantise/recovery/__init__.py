"""LoRA matrices trained on beside a base in few bits, so that both say what the exact model says."""
