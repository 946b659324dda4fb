/* Verdicts for tests/differential/test_json.py: reads texts from stdin, each behind its size as 32
 * bits little-endian and a byte that says how to read it, and answers a line for each. Files ('f',
 * 'p'): "ok" and the whole tree, or "no". Bodies (the number of an enum api_kind): "ok" and what
 * was asked, or the code of the refusal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/request.h"
#include "base/file.h"
#include "base/jval.h"

enum { TEXT_MAX = 1 << 24 };

static const struct api_limits limits = {
    .client_batch = 32, .hidden = 384, .max_length = 16, .vocab = 1000};

static void print_hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        printf("%02x", (unsigned char)text[i]);
    }
}

static void print_tree(const struct jval *value)
{
    const char *text;
    size_t size;
    int64_t number;
    double real;
    bool truth;
    if (jval_string(value, &text, &size)) {
        printf("s");
        print_hex(text, size);
    } else if (jval_int(value, &number)) {
        printf("i%lld", (long long)number);
    } else if (jval_double(value, &real)) {
        printf("d%.17g", real);
    } else if (jval_bool(value, &truth)) {
        printf(truth ? "t" : "f");
    } else if (jval_is_null(value)) {
        printf("n");
    } else if (jval_is_array(value)) {
        printf("[");
        for (size_t i = 0; i < jval_array_size(value); i++) {
            print_tree(jval_at(value, i));
            printf(",");
        }
        printf("]");
    } else {
        const struct jval *member;
        printf("{");
        for (void *at = jval_object_next(value, NULL, &text, &member); at;
             at = jval_object_next(value, at, &text, &member)) {
            print_hex(text, strlen(text));
            printf(":");
            print_tree(member);
            printf(",");
        }
        printf("}");
    }
}

static void judge_tree(enum err_code code, struct jval *root)
{
    if (code == ERR_OK) {
        printf("ok\t");
        print_tree(root);
        printf("\n");
        jval_free(root);
    } else {
        printf("no\n");
    }
}

/* As config.json and its like are read: numbers of any size. */
static void judge_file(const char *text, size_t size)
{
    struct jval *root = NULL;
    struct err err = ERR_INIT;
    int fd = memfd_create("text", 0);
    char path[64];
    if (fd < 0 || !file_put(fd, text, size)) {
        exit(1);
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum err_code code = jval_read_file(path, TEXT_MAX, &root, &err);
    judge_tree(code, root);
    (void)close(fd);
}

static void print_request(const struct api_request *request)
{
    printf("ok\tsingle=%d truncate=%d left=%d normalize=%d dimensions=%zu top_k=%zu raw=%d "
           "base64=%d special=%d",
           request->single, request->truncate, request->truncate_left, request->normalize,
           request->dimensions, request->top_k, request->raw_scores, request->base64,
           request->special_tokens);
    for (size_t i = 0; i < request->n; i++) {
        const struct api_input *input = &request->inputs[i];
        printf("\t%c", input->ids ? 'i' : 's');
        for (size_t j = 0; input->ids && j < input->n_ids; j++) {
            printf("%d,", input->ids[j]);
        }
        if (!input->ids) {
            print_hex(input->text, input->size);
        }
    }
    printf("\n");
}

static void judge_body(enum api_kind kind, const char *text, size_t size)
{
    struct arena arena;
    arena_init(&arena, 8 * size + 64 * limits.client_batch + 65536);
    struct api_request request;
    struct problem problem = {.kind = PROBLEM_NONE};
    if (request_parse(kind, text, size, &limits, &arena, &request, &problem)) {
        print_request(&request);
    } else {
        printf("%s\t%s\n", problem_row(problem.kind)->code, problem.param);
    }
    arena_done(&arena);
}

int main(void)
{
    uint32_t size;
    jval_global_init();
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        int how = getchar();
        /* Exactly as many bytes, so that AddressSanitizer sees a read behind them. */
        char *text = size <= TEXT_MAX ? malloc(size ? size : 1) : NULL;
        if (!text || fread(text, 1, size, stdin) != size) {
            return 1;
        }
        if (how == 'f') {
            judge_file(text, size);
        } else if (how == 'p') {
            struct jval *root = NULL;
            enum err_code code = jval_parse(text, size, &root, NULL);
            judge_tree(code, root);
        } else {
            judge_body((enum api_kind)how, text, size);
        }
        free(text);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
