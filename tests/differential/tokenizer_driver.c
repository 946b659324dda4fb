/* Tokenizes records from stdin for test_tokenizer.py: VOCAB [no-lower] [no-strip] [no-cjk].
 * A record is a size (uint32) and as many bytes of UTF-8; the answer is a count n (uint32), n ids,
 * n starts and n stops (int32 each), all in the machine's byte order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/text/tokenizer.h"

enum { INPUT_MAX = 1 << 30 };

static int fail(const struct err *err)
{
    (void)fprintf(stderr, "tokenizer_driver: %s\n", err->text);
    return 1;
}

static struct tokenizer_options parse_options(int argc, char **argv)
{
    struct tokenizer_options options = tokenizer_options_default();
    for (int i = 2; i < argc; i++) {
        options.lower_case = options.lower_case && strcmp(argv[i], "no-lower") != 0;
        options.strip_accents = options.strip_accents && strcmp(argv[i], "no-strip") != 0;
        options.tokenize_chinese_chars = options.tokenize_chinese_chars &&
                                         strcmp(argv[i], "no-cjk") != 0;
    }
    return options;
}

static int answer(const struct tokenizer *tokenizer, const char *input, size_t size,
                  struct tokens *tokens)
{
    const struct encode_options options = {
        .max_length = SIZE_MAX, .add_special_tokens = true, .offsets = true};
    struct err err = ERR_INIT;
    size_t at = 0;
    uint32_t length;
    while (size - at >= sizeof length) {
        memcpy(&length, input + at, sizeof length);
        at += sizeof length;
        if (size - at < length) {
            err_set(&err, ERR_INVALID, "input ends within a record");
            return fail(&err);
        }
        if (tokenizer_encode(tokenizer, input + at, length, &options, tokens, &err) != ERR_OK) {
            return fail(&err);
        }
        at += length;
        uint32_t n = (uint32_t)tokens->n;
        (void)fwrite(&n, sizeof n, 1, stdout);
        (void)fwrite(tokens->ids, sizeof *tokens->ids, n, stdout);
        (void)fwrite(tokens->starts, sizeof *tokens->starts, n, stdout);
        (void)fwrite(tokens->stops, sizeof *tokens->stops, n, stdout);
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct tokenizer_options options = parse_options(argc, argv);
    struct tokenizer *tokenizer;
    char *input;
    size_t size;
    if (argc < 2 || tokenizer_create(argv[1], &options, &tokenizer, &err) != ERR_OK) {
        return fail(&err);
    }
    if (file_read("/dev/stdin", INPUT_MAX, &input, &size, &err) != ERR_OK) {
        tokenizer_destroy(tokenizer);
        return fail(&err);
    }
    struct tokens tokens = {0};
    int status = answer(tokenizer, input, size, &tokens);
    tokens_done(&tokens);
    free(input);
    tokenizer_destroy(tokenizer);
    return status;
}
