/* The AMX instructions in software, for machines without them: each raises SIGILL there, and the
 * handler does what it would have done. So the compiled kernels themselves are tried, not a model
 * of their source. Tiles are the thread's; what palette 1 leaves open is checked on every use.
 * Source: Intel SDM volume 2, instruction formats and the pages of each instruction. */
#ifndef ORTHRUS_TESTS_SUPPORT_AMX_TRAPPED_H
#define ORTHRUS_TESTS_SUPPORT_AMX_TRAPPED_H

#if defined(__x86_64__)
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/support/testing.h"

enum { TRAP_TILES = 8, TRAP_ROWS = 16, TRAP_WORDS = 16 };

static _Thread_local struct {
    bool configured;
    size_t instructions; /* so far */
    uint32_t words[TRAP_TILES][TRAP_ROWS][TRAP_WORDS];
} trap;

/* One VEX-coded instruction of map 0f38. */
struct trapped {
    uint8_t prefix; /* pp: none, 66, f3, f2 */
    uint8_t opcode;
    unsigned reg;
    unsigned rm;
    unsigned vvvv;
    bool memory;
    uint64_t base; /* of the operand */
    uint64_t stride;
    size_t size;
};

enum { PREFIX_NONE, PREFIX_66, PREFIX_F3, PREFIX_F2 };

static inline uint64_t trap_register(const ucontext_t *context, unsigned number)
{
    static const int places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};
    return (uint64_t)context->uc_mcontext.gregs[places[number]];
}

static inline int32_t trap_i32(const uint8_t *bytes)
{
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* The memory operand behind ModRM; tile loads and stores take their stride from the index. */
static inline void trap_operand(const ucontext_t *context, const uint8_t *code, uint8_t modrm,
                                struct trapped *ret)
{
    uint8_t high = (uint8_t)~code[1];
    const uint8_t *at = code + 5;
    unsigned mod = modrm >> 6;
    ret->memory = true;
    if (mod == 0 && ret->rm == 5) { /* relative to the next instruction */
        ret->size += 4;
        ret->base = (uint64_t)(uintptr_t)code + ret->size + (uint64_t)(int64_t)trap_i32(at);
        return;
    }
    unsigned base = ret->rm | (high >> 5 & 1) << 3;
    if (ret->rm == 4) {
        unsigned index = (*at >> 3 & 7) | (high >> 6 & 1) << 3;
        base = (*at & 7) | (high >> 5 & 1) << 3;
        ret->stride = index == 4 ? 0 : trap_register(context, index) << (*at >> 6);
        at++;
        ret->size++;
    }
    if (mod == 0 && (base & 7) == 5) {
        ret->base = (uint64_t)(int64_t)trap_i32(at);
        ret->size += 4;
        return;
    }
    ret->base = trap_register(context, base);
    if (mod == 1) {
        ret->base += (uint64_t)(int64_t)(int8_t)*at;
        ret->size += 1;
    } else if (mod == 2) {
        ret->base += (uint64_t)(int64_t)trap_i32(at);
        ret->size += 4;
    }
}

static inline bool trap_decode(const ucontext_t *context, struct trapped *ret)
{
    const uint8_t *code = (const uint8_t *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) {
        return false; /* not VEX.128.0f38.W0 */
    }
    *ret = (struct trapped){.prefix = code[2] & 3,
                            .opcode = code[3],
                            .reg = code[4] >> 3 & 7,
                            .rm = code[4] & 7,
                            .vvvv = ~(code[2] >> 3) & 15,
                            .size = 5};
    if (code[4] >> 6 != 3) {
        trap_operand(context, code, code[4], ret);
    }
    return true;
}

static inline bool trap_configure(const uint8_t *bytes)
{
    bool good = bytes[0] == 1 && bytes[1] == 0;
    for (size_t i = 2; i < 16; i++) {
        good = good && bytes[i] == 0;
    }
    for (size_t tile = 0; tile < 16; tile++) {
        bool there = tile < TRAP_TILES;
        good = good && bytes[16 + 2 * tile] == (there ? 64 : 0) && bytes[17 + 2 * tile] == 0 &&
               bytes[48 + tile] == (there ? 16 : 0);
    }
    memset(trap.words, 0, sizeof trap.words);
    trap.configured = true;
    return good;
}

static inline float trap_float(uint32_t word)
{
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* TDPBF16PS: each pair's products are added to a pair of sums of their own, which join the
 * destination at the end; denormal numbers count as zero. */
__attribute__((target("fma"))) static inline void trap_dot_bf16(unsigned sum, unsigned a,
                                                                unsigned b)
{
    unsigned csr = _mm_getcsr();
    _mm_setcsr(0x9fc0); /* all exceptions masked, to nearest, denormals to zero */
    for (size_t m = 0; m < TRAP_ROWS; m++) {
        float even[TRAP_WORDS] = {0};
        float odd[TRAP_WORDS] = {0};
        for (size_t k = 0; k < TRAP_WORDS; k++) {
            uint32_t x = trap.words[a][m][k];
            for (size_t n = 0; n < TRAP_WORDS; n++) {
                uint32_t y = trap.words[b][k][n];
                even[n] = fmaf(trap_float(x << 16), trap_float(y << 16), even[n]);
                odd[n] = fmaf(trap_float(x & 0xffff0000u), trap_float(y & 0xffff0000u), odd[n]);
            }
        }
        for (size_t n = 0; n < TRAP_WORDS; n++) {
            float total = trap_float(trap.words[sum][m][n]) + (even[n] + odd[n]);
            memcpy(&trap.words[sum][m][n], &total, sizeof total);
        }
    }
    _mm_setcsr(csr);
}

static inline void trap_move(const struct trapped *at, bool store)
{
    for (size_t r = 0; r < TRAP_ROWS; r++) {
        void *memory = (void *)(uintptr_t)(at->base + r * at->stride);
        if (store) {
            memcpy(memory, trap.words[at->reg][r], 64);
        } else {
            memcpy(trap.words[at->reg][r], memory, 64);
        }
    }
}

/* False for what isn't an AMX instruction, or one that would fault. */
static inline bool trap_execute(const struct trapped *at)
{
    if (at->opcode == 0x49 && at->prefix == PREFIX_NONE && at->memory) {
        return at->reg == 0 && trap_configure((const uint8_t *)(uintptr_t)at->base);
    }
    if (!trap.configured) {
        return false;
    }
    if (at->opcode == 0x49 && at->prefix == PREFIX_NONE) {
        trap.configured = false;
        return at->reg == 0 && at->rm == 0;
    }
    if (at->opcode == 0x49 && at->prefix == PREFIX_F2) {
        memset(trap.words[at->reg], 0, sizeof trap.words[at->reg]);
        return !at->memory;
    }
    if (at->opcode == 0x4b && at->memory && at->prefix >= PREFIX_F3) {
        trap_move(at, at->prefix == PREFIX_F3);
        return true;
    }
    bool distinct = at->reg != at->rm && at->reg != at->vvvv && at->rm != at->vvvv;
    if (at->opcode == 0x5c && at->prefix == PREFIX_F3 && !at->memory && distinct) {
        trap_dot_bf16(at->reg, at->rm, at->vvvv);
        return true;
    }
    return false;
}

static inline void trap_handle(int number, siginfo_t *info, void *opaque)
{
    (void)info;
    ucontext_t *context = opaque;
    struct trapped at;
    if (!trap_decode(context, &at) || !trap_execute(&at)) {
        static const char text[] = "an instruction that the AMX emulation refuses\n";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        (void)signal(number, SIG_DFL); /* and meets it again */
        return;
    }
    trap.instructions++;
    context->uc_mcontext.gregs[REG_RIP] += (greg_t)at.size;
}

static inline void trap_install(void)
{
    struct sigaction action = {.sa_sigaction = trap_handle, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGILL, &action, NULL), 0);
}
#endif

#endif
