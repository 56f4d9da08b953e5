"""CrashChat-mini: VideoLLaMA3's architecture at four million parameters, trained on rendered scenes.

It replaces the real weights where those are not available: in the demo, in tests, and as the teacher that proves the
recipe of distillation. `vocabulary` and `model` make it, `pictures`, `questions` and `examples` feed it,
`training` and `tuning` teach it, `checkpoints` saves it as CrashChat saves its own, `answering` and `scoring` judge it.
"""
