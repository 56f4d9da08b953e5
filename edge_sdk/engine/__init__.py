"""TensorRT engines: access to the library, the shapes an engine is built for, and the cache on disk.

The package `export` builds engines and the package `runtimes` loads them.
"""

from edge_sdk.engine.cache import (
    BUILDER_REVISION,
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
    "BUILDER_REVISION",
    "EngineCache",
    "EngineKey",
    "EngineRecord",
    "KERNELS_SUFFIX",
    "Wanted",
    "default_cache",
    "graph_hashes",
    "graph_name",
]
