/* Any bytes as a safetensors file. What is accepted keeps every promise of
 * model/files/safetensors.h: the tensors cover the data once and can be read to the last byte.
 * Seeds: tests/data/golden. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/files/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte, so that AddressSanitizer sees a view that is too long. */
static void read_tensor(const struct tensor *tensor)
{
    size_t sum = 0;
    for (size_t i = 0; i < tensor->size; i++) {
        sum += tensor->data[i];
    }
    CHECK(sum <= 255 * tensor->size);
    if (!dtype_is_float(tensor->dtype) || tensor->count == 0) {
        return;
    }
    float *values = malloc(tensor->count * sizeof *values);
    CHECK(values);
    tensor_to_f32(tensor, 0, tensor->count, values);
    CHECK(floats_first_nonfinite(values, tensor->count) <= tensor->count);
    free(values);
}

static void check_file(const struct safetensors *file)
{
    const unsigned char *at = NULL;
    size_t size;
    const unsigned char *bytes = safetensors_bytes(file, &size);
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        CHECK(tensor->data >= bytes && tensor->data + tensor->size <= bytes + size);
        CHECK(!at || tensor->data == at);
        at = tensor->data + tensor->size;
        size_t count = 1;
        for (unsigned d = 0; d < tensor->rank; d++) {
            count *= tensor->shape[d];
        }
        CHECK(count == tensor->count && count * dtype_size(tensor->dtype) == tensor->size);
        CHECK(safetensors_find(file, tensor->name) == tensor);
        char shape[TENSOR_SHAPE_TEXT_SIZE];
        tensor_shape_text(tensor, shape);
        CHECK(strlen(shape) < sizeof shape);
        read_tensor(tensor);
    }
    CHECK(!at || at == bytes + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *file = NULL;
    struct err err = ERR_INIT;
    if (safetensors_parse(data, size, "fuzz", &file, &err) == ERR_OK) {
        check_file(file);
        safetensors_close(file);
    } else {
        CHECK(err.code != ERR_OK && err.text[0] && !file);
    }
    return 0;
}
