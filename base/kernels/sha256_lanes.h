/* SHA-256's rounds over many digests side by side, one in each lane of a vector. */
#ifndef ORTHRUS_BASE_KERNELS_SHA256_LANES_H
#define ORTHRUS_BASE_KERNELS_SHA256_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"

enum { STATE_WORDS = 8 };

/* Takes n blocks of SHA256_BLOCK bytes of each data[lane] into the state, which holds word by word
 * what all digests have: state[word][lane]. For base/sha256.c alone; thread-safe. Needs what its
 * compiler flags name (AVX-512 F, BW, DQ and VL); x86-64 alone has it. Source: FIPS 180-4, section
 * 6.2.2. */
void sha256_lanes_avx512(uint32_t state[STATE_WORDS][SHA256_LANES],
                         const unsigned char *const data[SHA256_LANES], size_t n);

#endif
