// EDGE_WIDE compiles one function for the vector units of several processor generations; the loader picks a version.
//
// By default, x86-64 programs use 16-byte vectors, which every such processor has; those since 2013 have wider ones. On
// arm64 one version fits every processor. Compilers other than GCC build only the narrow version, and so does GCC with
// its thread sanitiser, which starts only after the loader has picked.
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

// Functions called in the loops of such a function must be inlined, or they are compiled for the narrowest vectors.
#if defined(__GNUC__)
#define EDGE_INLINE inline __attribute__((always_inline))
#else
#define EDGE_INLINE inline
#endif
