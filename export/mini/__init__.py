"""CrashChat-mini: VideoLLaMA3's architecture at four million parameters, trained on rendered scenes.

It stands in for the real weights where those cannot be reached: in the demo, in tests, and as a teacher on which the
recipe of distillation is proved. `vocabulary` and `model` make it, `pictures`, `questions` and `examples` feed it,
`training` and `tuning` teach it, `checkpoints` saves it as CrashChat saves its own, `answering` and `scoring` judge it.
"""
