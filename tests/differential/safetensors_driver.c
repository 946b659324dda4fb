/* Verdicts for tests/differential/test_safetensors.py: reads files from stdin, each behind its size
 * as 32 bits little-endian, and answers one line for each: "ok" with every tensor's name, dtype,
 * shape and SHA-256, or "no" and why. */
#include <stdio.h>
#include <stdlib.h>

#include "base/sha256.h"
#include "model/files/safetensors.h"

enum { FILE_MAX = 1 << 24 };

static void print_tensors(const struct safetensors *file)
{
    printf("ok");
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        char digest[SHA256_HEX_SIZE + 1];
        sha256_of(tensor->data, tensor->size, digest);
        printf("\t");
        for (const unsigned char *p = (const unsigned char *)tensor->name; *p; p++) {
            printf("%02x", *p);
        }
        printf(" %s", dtype_name(tensor->dtype));
        for (unsigned d = 0; d < tensor->rank; d++) {
            printf("%c%zu", d ? 'x' : ' ', tensor->shape[d]);
        }
        printf(" %s", digest);
    }
    printf("\n");
}

int main(void)
{
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        /* Exactly as many bytes, so that AddressSanitizer sees a read behind them. */
        unsigned char *data = size <= FILE_MAX ? malloc(size ? size : 1) : NULL;
        if (!data || fread(data, 1, size, stdin) != size) {
            return 1;
        }
        struct safetensors *file = NULL;
        struct err err = ERR_INIT;
        if (safetensors_parse(data, size, "file", &file, &err) == ERR_OK) {
            print_tensors(file);
            safetensors_close(file);
        } else {
            printf("no\t%s\n", err.text);
        }
        free(data);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
