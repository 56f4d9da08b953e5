"""Implementations of the verbs that make bundles from checkpoints or clips, and engines from bundles.

The steps live in rooms that do not import each other; these modules open the rooms by name and pass folders between
them. All except `building` are for a workstation.
"""
