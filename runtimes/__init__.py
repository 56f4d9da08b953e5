"""Inference runtimes, one file each; opened by name through `edge_sdk.registry`, never imported by the ground."""
