#include "cli/vectors.h"

#include <stdio.h>
#include <string.h>

#include "api/float_text.h"
#include "base/size.h"
#include "model/files/safetensors.h"

static const char *const formats[] = {"ndjson", "npy"};
static const char *const dtypes[] = {"fp32", "fp16", "ubinary"};

static bool find(const char *word, const char *const *words, size_t n, size_t *ret_index)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(word, words[i]) == 0) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

enum err_code vector_format_parse(const char *word, enum vector_format *ret_format, struct err *err)
{
    size_t index;
    if (!find(word, formats, sizeof formats / sizeof *formats, &index)) {
        return err_set(err, ERR_USAGE, "--format: ndjson or npy is allowed");
    }
    *ret_format = (enum vector_format)index;
    return ERR_OK;
}

enum err_code vector_dtype_parse(const char *word, enum vector_dtype *ret_dtype, struct err *err)
{
    size_t index;
    if (!find(word, dtypes, sizeof dtypes / sizeof *dtypes, &index)) {
        return err_set(err, ERR_USAGE, "--dtype: fp32, fp16 or ubinary is allowed");
    }
    *ret_dtype = (enum vector_dtype)index;
    return ERR_OK;
}

const char *vector_format_name(enum vector_format format)
{
    return formats[format];
}

const char *vector_dtype_name(enum vector_dtype dtype)
{
    return dtypes[dtype];
}

size_t vector_columns(enum vector_dtype dtype, size_t width)
{
    return dtype == VECTOR_UBINARY ? size_div_up(width, 8) : width;
}

size_t vector_row_bytes(enum vector_dtype dtype, size_t width)
{
    static const size_t bytes[] = {sizeof(float), sizeof(uint16_t), 1};
    return vector_columns(dtype, width) * bytes[dtype];
}

void vector_npy_header(enum vector_dtype dtype, uint64_t rows, size_t width,
                       char out[VECTOR_NPY_HEADER])
{
    static const char *const descriptions[] = {"<f4", "<f2", "|u1"};
    /* Magic, header size, a Python literal padded to a multiple of 64 bytes. Source:
     * numpy.lib.format. */
    char literal[VECTOR_NPY_HEADER - 16];
    int size = snprintf(
        literal, sizeof literal, "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %zu), }",
        descriptions[dtype], (unsigned long long)rows, vector_columns(dtype, width));
    memset(out, ' ', VECTOR_NPY_HEADER);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = VECTOR_NPY_HEADER - 10;
    out[9] = 0;
    memcpy(out + 10, literal, (size_t)size);
    out[VECTOR_NPY_HEADER - 1] = '\n';
}

/* IEEE 754 binary16, rounded to nearest even; false where it would be infinite. */
static bool to_half(float value, uint16_t *ret_half)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x477ff000u) { /* 65520 and up round to infinity */
        return false;
    }
    if (magnitude < 0x33000001u) { /* at most half the smallest subnormal */
        *ret_half = sign;
        return true;
    }
    uint32_t exponent = magnitude >> 23;
    uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    /* Bits that fall off: 13 in normal numbers, more in subnormal ones. */
    unsigned shift = exponent > 112 ? 13 : 126 - exponent;
    uint32_t kept = mantissa >> shift;
    uint32_t rest = mantissa & ((1u << shift) - 1);
    uint32_t half_way = 1u << (shift - 1);
    kept += rest > half_way || (rest == half_way && (kept & 1));
    uint32_t base = exponent > 112 ? (exponent - 113) << 10 : 0;
    *ret_half = (uint16_t)(sign | (base + kept));
    return true;
}

static void pack_bits(const float *row, size_t width, unsigned char *out)
{
    memset(out, 0, size_div_up(width, 8));
    for (size_t i = 0; i < width; i++) {
        out[i / 8] |= (unsigned char)((row[i] > 0) << (7 - i % 8));
    }
}

static bool append_npy(enum vector_dtype dtype, const float *row, size_t width, struct buf *out)
{
    size_t bytes = vector_row_bytes(dtype, width);
    char *to = buf_reserve(out, bytes);
    if (!to) {
        return false;
    }
    if (dtype == VECTOR_FP32) {
        memcpy(to, row, bytes);
    } else if (dtype == VECTOR_UBINARY) {
        pack_bits(row, width, (unsigned char *)to);
    }
    for (size_t i = 0; dtype == VECTOR_FP16 && i < width; i++) {
        uint16_t half;
        if (!to_half(row[i], &half)) {
            return false;
        }
        memcpy(to + i * sizeof half, &half, sizeof half);
    }
    buf_added(out, bytes);
    return true;
}

/* The value of a binary16 number, exact in fp32. */
static float from_half(uint16_t half)
{
    const struct tensor one = {.dtype = DTYPE_F16,
                               .rank = 1,
                               .shape = {1},
                               .count = 1,
                               .data = (const unsigned char *)&half,
                               .size = sizeof half};
    float value;
    tensor_to_f32(&one, 0, 1, &value);
    return value;
}

static bool append_floats(bool half_precision, const float *row, size_t width, struct buf *out)
{
    char *begin = buf_reserve(out, width * (FLOAT_TEXT_MAX + 1));
    char *at = begin;
    for (size_t i = 0; begin && i < width; i++) {
        float value = row[i];
        uint16_t half;
        if (half_precision) {
            if (!to_half(value, &half)) {
                return false;
            }
            value = from_half(half);
        }
        if (i > 0) {
            *at++ = ',';
        }
        at += float_text(value, at);
    }
    if (begin) {
        buf_added(out, (size_t)(at - begin));
    }
    return true;
}

static void append_bits(const float *row, size_t width, struct buf *out)
{
    for (size_t i = 0; i < width; i += 8) {
        unsigned char byte;
        pack_bits(row + i, size_min(8, width - i), &byte);
        buf_printf(out, "%s%u", i ? "," : "", (unsigned)byte);
    }
}

bool vector_append(enum vector_format format, enum vector_dtype dtype, const float *row,
                   size_t width, const char *id, struct buf *out)
{
    if (format == VECTOR_NPY) {
        return append_npy(dtype, row, width, out);
    }
    if (id) {
        buf_printf(out, "{\"id\":%s,\"embedding\":", id);
    }
    buf_append_char(out, '[');
    bool fits = true;
    if (dtype == VECTOR_UBINARY) {
        append_bits(row, width, out);
    } else {
        fits = append_floats(dtype == VECTOR_FP16, row, width, out);
    }
    buf_append_str(out, id ? "]}\n" : "]\n");
    return fits && !buf_failed(out);
}
