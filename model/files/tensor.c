/* What the bytes of a tensor mean: dtypes, shapes, conversion to fp32. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/size.h"
#include "model/files/safetensors.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little-endian and is read in place"
#endif

/* Loops below run over blocks of a constant length, which compilers turn into vector code at the
 * optimization level of the whole tree. */
enum { BLOCK = 16 };

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [DTYPE_BOOL] = {"BOOL", 1},       [DTYPE_U8] = {"U8", 1},           [DTYPE_I8] = {"I8", 1},
    [DTYPE_F8_E5M2] = {"F8_E5M2", 1}, [DTYPE_F8_E4M3] = {"F8_E4M3", 1}, [DTYPE_I16] = {"I16", 2},
    [DTYPE_U16] = {"U16", 2},         [DTYPE_F16] = {"F16", 2},         [DTYPE_BF16] = {"BF16", 2},
    [DTYPE_I32] = {"I32", 4},         [DTYPE_U32] = {"U32", 4},         [DTYPE_F32] = {"F32", 4},
    [DTYPE_F64] = {"F64", 8},         [DTYPE_I64] = {"I64", 8},         [DTYPE_U64] = {"U64", 8},
};

const char *dtype_name(enum dtype dtype)
{
    return dtypes[dtype].name;
}

size_t dtype_size(enum dtype dtype)
{
    return dtypes[dtype].size;
}

bool dtype_is_float(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
}

bool dtype_parse(const char *word, enum dtype *ret_dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(word, dtypes[i].name) == 0) {
            *ret_dtype = (enum dtype)i;
            return true;
        }
    }
    return false;
}

/* IEEE 754 binary16 → binary32, exact. Subnormals go through an integer conversion, so that the
 * result does not depend on the CPU's denormals mode and costs no microcode assist. */
static inline uint32_t f16_bits(uint16_t half)
{
    const uint32_t rebias = (127u - 15u) << 23;
    uint32_t magnitude = half & 0x7fffu;
    uint32_t normal = (magnitude << 13) + rebias;
    /* Infinity and NaN: exponent 31 becomes 255. */
    normal += magnitude >= 0x7c00u ? rebias : 0;
    float tiny = (float)(int32_t)magnitude * 0x1p-24f;
    uint32_t subnormal;
    memcpy(&subnormal, &tiny, sizeof subnormal);
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    return sign | (magnitude < 0x0400u ? subnormal : normal);
}

/* One block of 16-bit floats; data may be unaligned. */
static inline void f16_block(const unsigned char *data, float *out)
{
    uint16_t half[BLOCK];
    uint32_t bits[BLOCK];
    memcpy(half, data, sizeof half);
    for (size_t i = 0; i < BLOCK; i++) {
        bits[i] = f16_bits(half[i]);
    }
    memcpy(out, bits, sizeof bits);
}

static inline void bf16_block(const unsigned char *data, float *out)
{
    uint16_t half[BLOCK];
    uint32_t bits[BLOCK];
    memcpy(half, data, sizeof half);
    for (size_t i = 0; i < BLOCK; i++) {
        bits[i] = (uint32_t)half[i] << 16;
    }
    memcpy(out, bits, sizeof bits);
}

static void half_to_f32(const unsigned char *data, size_t count, bool bfloat, float *out)
{
    size_t i = 0;
    for (; i + BLOCK <= count; i += BLOCK) {
        if (bfloat) {
            bf16_block(data + 2 * i, out + i);
        } else {
            f16_block(data + 2 * i, out + i);
        }
    }
    for (; i < count; i++) {
        uint16_t half;
        memcpy(&half, data + 2 * i, sizeof half);
        uint32_t bits = bfloat ? (uint32_t)half << 16 : f16_bits(half);
        memcpy(out + i, &bits, sizeof bits);
    }
}

struct tensor tensor_of_floats(const float *data, size_t rows, size_t columns)
{
    return (struct tensor){.name = "floats",
                           .dtype = DTYPE_F32,
                           .rank = 2,
                           .shape = {rows, columns},
                           .count = rows * columns,
                           .data = (const unsigned char *)data,
                           .size = rows * columns * sizeof *data};
}

void tensor_to_f32(const struct tensor *tensor, size_t first, size_t count, float *out)
{
    CHECK(dtype_is_float(tensor->dtype));
    CHECK(first <= tensor->count && count <= tensor->count - first);
    if (count == 0) {
        return;
    }
    const unsigned char *data = tensor->data + first * dtype_size(tensor->dtype);
    if (tensor->dtype == DTYPE_F32) {
        memcpy(out, data, count * sizeof *out);
    } else {
        half_to_f32(data, count, tensor->dtype == DTYPE_BF16, out);
    }
}

const float *tensor_as_f32(const struct tensor *tensor, size_t first, size_t count, float *room)
{
    const unsigned char *data = tensor->data + first * dtype_size(tensor->dtype);
    if (tensor->dtype == DTYPE_F32 && (uintptr_t)data % sizeof(float) == 0) {
        CHECK(first <= tensor->count && count <= tensor->count - first);
        return (const float *)(const void *)data;
    }
    tensor_to_f32(tensor, first, count, room);
    return room;
}

static inline uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The top bit is set where the exponent is all ones. */
static inline uint32_t nonfinite_bit(float value)
{
    return (float_bits(value) & 0x7fffffffu) + 0x00800000u;
}

size_t floats_first_nonfinite(const float *values, size_t count)
{
    size_t i = 0;
    for (; i + BLOCK <= count; i += BLOCK) {
        uint32_t any = 0;
        for (size_t lane = 0; lane < BLOCK; lane++) {
            any |= nonfinite_bit(values[i + lane]);
        }
        if (any >> 31) {
            break;
        }
    }
    while (i < count && !(nonfinite_bit(values[i]) >> 31)) {
        i++;
    }
    return i;
}

void shape_text(const size_t *shape, unsigned rank, char out[TENSOR_SHAPE_TEXT_SIZE])
{
    size_t used = 0;
    out[used++] = '[';
    for (unsigned i = 0; i < rank; i++) {
        int put = snprintf(out + used, TENSOR_SHAPE_TEXT_SIZE - used, "%s%zu", i ? ", " : "",
                           shape[i]);
        CHECK(put > 0 && (size_t)put < TENSOR_SHAPE_TEXT_SIZE - used);
        used += (size_t)put;
    }
    out[used++] = ']';
    out[used] = '\0';
}

void tensor_shape_text(const struct tensor *tensor, char out[TENSOR_SHAPE_TEXT_SIZE])
{
    shape_text(tensor->shape, tensor->rank, out);
}

enum err_code tensor_check_float(const struct tensor *tensor, const char *label, struct err *err)
{
    if (!dtype_is_float(tensor->dtype)) {
        return err_set(err, ERR_UNSUPPORTED, "%s: tensor %s is %s; F32, F16 or BF16 can be read",
                       label, tensor->name, dtype_name(tensor->dtype));
    }
    return ERR_OK;
}

enum err_code tensor_check(const struct tensor *tensor, const char *label, unsigned rank,
                           const size_t *shape, struct err *err)
{
    if (tensor->rank != rank || memcmp(tensor->shape, shape, rank * sizeof *shape) != 0) {
        char found[TENSOR_SHAPE_TEXT_SIZE];
        char expected[TENSOR_SHAPE_TEXT_SIZE];
        tensor_shape_text(tensor, found);
        shape_text(shape, rank, expected);
        return err_set(err, ERR_MISMATCH, "%s: tensor %s is %s, by config.json it must be %s",
                       label, tensor->name, found, expected);
    }
    return tensor_check_float(tensor, label, err);
}

const char *tensor_shown_name(const char *name)
{
    enum { SHOWN_MAX = 96 };
    for (size_t i = 0; name[i]; i++) {
        if (i == SHOWN_MAX || name[i] < 0x20 || name[i] > 0x7e) {
            return "(name not printable)";
        }
    }
    return name;
}
