#include "train/network/dropout.h"

#include "train/network/kernels/kernels.h"

void dropout_row(const struct dropout *dropout, size_t row, float *x, size_t n)
{
    if (dropout->rate <= 0) {
        return;
    }
    double threshold = (double)dropout->rate * 4294967296.0;
    struct philox_stream stream = {
        .key = {(uint32_t)dropout->seed, (uint32_t)(dropout->seed >> 32)},
        .counter = {(uint32_t)row, dropout->step,
                    dropout->place | (uint32_t)((uint64_t)row >> 32) << 16},
    };
    train_kernels_get()->dropout(x, n, (uint32_t)threshold, 1.0f / (1.0f - dropout->rate), &stream);
}

/* One block of Philox 4x32-10, see train/network/kernels/kernels.h. */
static void philox(uint64_t seed, uint32_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), stream, 0xffffffffu};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ key[0], (uint32_t)b,
                            (uint32_t)(a >> 32) ^ c[3] ^ key[1], (uint32_t)a};
        c[0] = next[0];
        c[1] = next[1];
        c[2] = next[2];
        c[3] = next[3];
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++) {
        out[i] = c[i];
    }
}

uint32_t random_u32(uint64_t seed, uint32_t stream, uint64_t index)
{
    uint32_t block[4];
    philox(seed, stream, index, block);
    return block[0];
}

uint64_t random_below(uint64_t seed, uint32_t stream, uint64_t index, uint64_t bound)
{
    uint32_t block[4];
    philox(seed, stream, index, block);
    uint64_t word = (uint64_t)block[0] << 32 | block[1];
    /* The high half of a 128-bit product maps 0 … 2^64-1 evenly onto 0 … bound-1. */
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)word * bound >> 64);
}

void random_order(uint64_t seed, uint32_t stream, size_t n, size_t *order)
{
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)random_below(seed, stream, i, i);
        size_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}
