/* Verdicts for tests/differential/test_heads.py. Arguments: the encoder's width and digest, its
 * pooling. Reads heads files from stdin, each behind its size as 32 bits little-endian, and answers
 * one line for each: "ok" with each head's name, labels and the SHA-256 of its numbers in fp32;
 * "other" where the file is for another encoder or pooling; "no" and why. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/jval.h"
#include "model/heads/heads.h"

enum { FILE_MAX = 1 << 24 };

static void print_numbers(const float *values, size_t n)
{
    char digest[SHA256_HEX_SIZE + 1];
    sha256_of(values, n * sizeof *values, digest);
    printf(" %s", digest);
}

static void print_set(const struct heads *heads)
{
    printf("ok");
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        printf("\t%s", head->name);
        print_numbers(head->weight, head->classes * (head->inner ? head->inner : head->width));
        print_numbers(head->bias, head->classes);
        for (size_t k = 0; k < head->classes; k++) {
            printf(" ");
            for (const unsigned char *p = (const unsigned char *)head->labels[k]; *p; p++) {
                printf("%02x", *p);
            }
        }
    }
    printf("\n");
}

static void judge(const void *data, size_t size, const struct heads_fit *fit)
{
    struct heads *heads = NULL;
    struct err err = ERR_INIT;
    enum err_code code = heads_create(data, size, "file", fit, true, NULL, &heads, &err);
    if (code != ERR_OK) {
        printf("%s\t%s\n", code == ERR_CONFLICT ? "other" : "no", err.text);
        return;
    }
    /* What can be downloaded is what came in. */
    CHECK(heads->file_size == size && memcmp(heads->file, data, size) == 0);
    print_set(heads);
    heads_release(heads);
}

int main(int argc, char **argv)
{
    struct heads_fit fit = {.hidden = 0};
    if (argc != 4 || pooling_parse(argv[3], &fit.pooling, NULL) != ERR_OK) {
        return 2;
    }
    fit.hidden = strtoul(argv[1], NULL, 10);
    fit.encoder_sha256 = argv[2];
    jval_global_init();
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        /* Exactly as many bytes, so that AddressSanitizer sees a read behind them. */
        unsigned char *data = size <= FILE_MAX ? malloc(size ? size : 1) : NULL;
        if (!data || fread(data, 1, size, stdin) != size) {
            free(data);
            return 1;
        }
        judge(data, size, &fit);
        free(data);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
