/* Loops whose bodies must become straight code, so that arrays of vectors live in registers. */
#ifndef ORTHRUS_BASE_UNROLL_H
#define ORTHRUS_BASE_UNROLL_H

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#define INLINE static inline __attribute__((always_inline))

#endif
