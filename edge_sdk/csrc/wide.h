// EDGE_WIDE: one function, compiled for the vectors of several generations of a processor; the loader picks at start.
//
// x86-64 programs are built for vectors of 16 bytes, which every such processor has; those since 2013 have wider ones.
// On arm64 one build fits every processor. Compilers other than GCC build the narrow one alone, and so does GCC's thread
// sanitiser, which starts after the loader has picked.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#if __GNUC__ >= 12
#define EDGE_WIDE __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define EDGE_WIDE __attribute__((target_clones("default", "avx2")))
#endif
#else
#define EDGE_WIDE
#endif

// What such a function calls in its loops must become part of it, or it is compiled for the narrowest vectors.
#if defined(__GNUC__)
#define EDGE_INLINE inline __attribute__((always_inline))
#else
#define EDGE_INLINE inline
#endif
