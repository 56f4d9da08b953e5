"""From a checkpoint or clips to a bundle, and from a bundle to engines: the bodies of those verbs, a module each.

The steps live in rooms that do not know each other; these modules open them by name and pass folders between them. All
but `building` are for a workstation.
"""
