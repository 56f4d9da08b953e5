"""Rendered traffic: crashes, near misses and normal drives with labels taken from physics.

One seed is one scene: the plan (who drives where), the physics, the look and the encoding all derive from it, so that
the same seed, size and library versions give the same bytes. Importing this package loads no renderer.
"""

# Part of every record: bump it with any change that alters pixels or labels.
GENERATOR_VERSION = "2"
# The broad family's version; the same holds for it.
BROAD_VERSION = "3"
# The close family's version.
CLOSE_VERSION = "c1"
# The soft family's version.
SOFT_VERSION = "s1"
