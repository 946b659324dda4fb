/* SHA-256's rounds over many digests side by side, one in each lane of a vector. For base/sha256.c.
 */
#ifndef ORTHRUS_BASE_KERNELS_SHA256_LANES_H
#define ORTHRUS_BASE_KERNELS_SHA256_LANES_H

#include <stddef.h>
#include <stdint.h>

enum { LANES = 16, STATE_WORDS = 8, BLOCK_BYTES = 64 };

/* n blocks of each data[lane] into state, word by word: state[word][lane]. A function of FIPS
 * 180-4, section 6.2.2. Needs AVX-512 F and BW; there is none for other architectures. */
void sha256_lanes_avx512(uint32_t state[STATE_WORDS][LANES], const unsigned char *const data[LANES],
                         size_t n);

#endif
