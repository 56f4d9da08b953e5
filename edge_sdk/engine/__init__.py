"""TensorRT's engines: the door to the library, the shapes an engine is built for, and where engines lie.

They are built in the room `export` and loaded in the room `runtimes`.
"""

from edge_sdk.engine.cache import (
    KERNELS_SUFFIX,
    EngineCache,
    EngineKey,
    EngineRecord,
    Wanted,
    default_cache,
    graph_hashes,
    graph_name,
)

__all__ = [
    "EngineCache",
    "EngineKey",
    "EngineRecord",
    "KERNELS_SUFFIX",
    "Wanted",
    "default_cache",
    "graph_hashes",
    "graph_name",
]
