/* orthrus bench: offline encoder throughput, time per phase, share of the machine's limit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/jval.h"
#include "base/reader.h"
#include "base/size.h"
#include "cli/alone.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/offline.h"
#include "cli/peak.h"
#include "cli/progress.h"

enum { PASSES = 3, ALONE_TEXTS = 64, SENTENCES = 512 };
static const size_t INPUT_MAX = (size_t)16 << 30;

struct bench_flags {
    struct offline_flags offline;
    const char *input;
    unsigned passes;
    bool json;
};

/* The texts of a bench, all in memory. */
struct texts {
    struct buf bytes;
    struct line *at; /* [n], owned */
    size_t n;
};

static void texts_done(struct texts *texts)
{
    buf_done(&texts->bytes);
    free(texts->at);
    *texts = (struct texts){0};
}

/* What one run measured. Rates are of the best pass. */
struct result {
    size_t sentences;
    uint64_t tokens;
    double seconds;
    double gflops;
    double peak_gflops;   /* what these threads could do at most; 0: not known */
    double alone_ms;      /* median of one text at a time, all threads on it */
    double one_thread_ms; /* the same on one thread */
    double phase_share[PHASE_COUNT];
};

/* The sentences of a bench without -i: of ordinary lengths, 5 to 45 words, always the same. */
static void make_sentences(struct buf *text)
{
    static const char *const words[] = {
        "the", "river", "was", "low", "that",  "summer", "and",  "nobody", "in",  "town", "would",
        "say", "why",   "it",  "had", "never", "come",   "back", "to",     "its", "old",  "bed"};
    enum { WORDS = sizeof words / sizeof *words };
    uint64_t state = 42;
    for (size_t i = 0; i < SENTENCES; i++) {
        /* Knuth's MMIX generator: any will do, it has to be the same everywhere. */
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t length = 5 + (state >> 33) % 37;
        for (size_t w = 0; w < length; w++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            buf_append_str(text, words[(state >> 33) % WORDS]);
            buf_append_char(text, w + 1 < length ? ' ' : '\n');
        }
    }
}

static enum err_code read_sentences(const char *path, struct buf *text, size_t *ret_n,
                                    struct err *err)
{
    struct reader reader;
    enum reader_state state = READER_LINE;
    enum err_code code = reader_open(path, &reader, err);
    if (code != ERR_OK) {
        return code;
    }
    size_t n = 0;
    while (code == ERR_OK && state == READER_LINE) {
        struct line line;
        code = reader_next(&reader, true, &state, &line, err);
        if (code == ERR_OK && state == READER_LINE) {
            bool whole = buf_append(text, line.text, line.size) && buf_append_char(text, '\n');
            code = whole ? ERR_OK : err_nomem(err, text->size);
            n++;
        }
    }
    if (code == ERR_OK && n == 0) {
        code = err_set(err, ERR_INVALID, "%s: the input has no lines", reader.label);
    }
    reader_close(&reader);
    *ret_n = n;
    return code;
}

static enum err_code open_texts(const char *path, struct texts *ret_texts, struct err *err)
{
    struct texts texts = {.n = SENTENCES};
    buf_init(&texts.bytes, INPUT_MAX);
    enum err_code code = ERR_OK;
    if (path) {
        code = read_sentences(path, &texts.bytes, &texts.n, err);
    } else {
        make_sentences(&texts.bytes);
    }
    texts.at = code == ERR_OK ? calloc(size_max(texts.n, 1), sizeof *texts.at) : NULL;
    if (code == ERR_OK && (!texts.at || buf_failed(&texts.bytes))) {
        code = err_nomem(err, texts.n * sizeof *texts.at);
    }
    if (code != ERR_OK) {
        texts_done(&texts);
        return code;
    }
    const char *at = texts.bytes.data;
    for (size_t i = 0; i < texts.n; i++) {
        const char *newline = memchr(at, '\n', (size_t)(texts.bytes.data + texts.bytes.size - at));
        CHECK(newline);
        texts.at[i] = (struct line){at, (size_t)(newline - at)};
        at = newline + 1;
    }
    *ret_texts = texts;
    return ERR_OK;
}

/* One pass over all texts; the vectors are thrown away. */
struct pass {
    const struct tokenizer *tokenizer;
    const struct texts *texts;
    size_t given;
};

static enum err_code fill(void *context, struct bulk_window *window, bool wait, bool *ret_end,
                          struct err *err)
{
    struct pass *pass = context;
    enum err_code code = ERR_OK;
    (void)wait;
    while (code == ERR_OK && pass->given < pass->texts->n && bulk_window_room(window) > 0) {
        const struct line *text = &pass->texts->at[pass->given++];
        code = bulk_add_text(window, pass->tokenizer, text->text, text->size, err);
    }
    *ret_end = pass->given == pass->texts->n;
    return code;
}

static enum err_code take(void *context, const struct bulk_window *window, float *rows,
                          struct err *err)
{
    (void)context, (void)window, (void)rows, (void)err;
    return ERR_OK;
}

static enum err_code run_pass(const struct offline *offline, const struct texts *texts,
                              struct err *err)
{
    struct pass pass = {.tokenizer = offline->model->tokenizer, .texts = texts};
    const struct bulk_stream stream = {.context = &pass, .fill = fill, .take = take};
    return bulk_run(offline->bulk, &stream, err);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum err_code median_alone(const struct offline *offline, const struct texts *lines,
                                  unsigned width, double *ret_ms, struct err *err)
{
    const struct line *texts[ALONE_TEXTS];
    double ms[ALONE_TEXTS];
    size_t n = size_min(lines->n, ALONE_TEXTS);
    for (size_t i = 0; i < n; i++) {
        texts[i] = &lines->at[i * (lines->n / n)];
    }
    enum err_code code = alone_measure(offline, texts, n, width, ms, err);
    if (code == ERR_OK) {
        qsort(ms, n, sizeof *ms, ascending);
        *ret_ms = ms[n / 2];
    }
    return code;
}

static enum err_code measure_passes(const struct offline *offline, const struct texts *texts,
                                    unsigned passes, struct progress *progress,
                                    struct result *result, struct err *err)
{
    enum err_code code = run_pass(offline, texts, err); /* warms caches and pages */
    for (unsigned i = 0; i < passes && code == ERR_OK; i++) {
        struct bulk_counts before, after;
        progress_update(progress, (uint64_t)i + 1);
        bulk_counts(offline->bulk, &before);
        uint64_t start = clock_now_ns();
        code = run_pass(offline, texts, err);
        double seconds = (double)(clock_now_ns() - start) / 1e9;
        bulk_counts(offline->bulk, &after);
        if (i && seconds >= result->seconds) {
            continue;
        }
        uint64_t encode_ns = after.encode_ns - before.encode_ns;
        result->seconds = seconds;
        result->tokens = after.tokens - before.tokens;
        result->gflops = (after.flops - before.flops) / seconds / 1e9;
        for (size_t p = 0; p < PHASE_COUNT; p++) {
            uint64_t phase_ns = after.phase_ns[p] - before.phase_ns[p];
            result->phase_share[p] = encode_ns ? (double)phase_ns / (double)encode_ns : 0;
        }
    }
    return code;
}

static enum err_code measure(const struct offline *offline, const struct texts *texts,
                             unsigned passes, struct result *result, struct err *err)
{
    struct progress progress;
    progress_start(&progress, "measuring", "passes", (uint64_t)passes + 2);
    *result = (struct result){.sentences = texts->n};
    enum err_code code = measure_passes(offline, texts, passes, &progress, result, err);
    if (code == ERR_OK) {
        progress_update(&progress, (uint64_t)passes + 1);
        code = median_alone(offline, texts, offline->threads, &result->alone_ms, err);
    }
    if (code == ERR_OK) {
        code = median_alone(offline, texts, 1, &result->one_thread_ms, err);
    }
    if (code == ERR_OK) {
        const struct encoder *encoder = offline->model->encoder;
        result->peak_gflops = peak_gflops(encoder_isa(encoder), encoder_precision(encoder),
                                          offline->threads);
    }
    progress_end(&progress, (uint64_t)passes + 2);
    return code;
}

static void print_json(const struct offline *offline, const struct result *r)
{
    const struct encoder *encoder = offline->model->encoder;
    printf("{\"model\":\"%s\",\"precision\":\"%s\",\"isa\":\"%s\",\"threads\":%u,"
           "\"batch_tokens\":%zu,\"sentences\":%zu,\"tokens\":%llu,\"sentences_per_s\":%.1f,"
           "\"tokens_per_s\":%.0f,\"gflops\":%.1f,",
           offline->model->name, precision_name(encoder_precision(encoder)),
           isa_name(encoder_isa(encoder)), offline->threads, offline->batch_tokens, r->sentences,
           (unsigned long long)r->tokens, (double)r->sentences / r->seconds,
           (double)r->tokens / r->seconds, r->gflops);
    if (r->peak_gflops > 0) {
        printf("\"peak_gflops\":%.1f,\"peak_share\":%.4f,", r->peak_gflops,
               r->gflops / r->peak_gflops);
    } else {
        printf("\"peak_gflops\":null,\"peak_share\":null,");
    }
    printf("\"median_ms_alone\":%.2f,\"median_ms_one_thread\":%.2f,\"phases\":{", r->alone_ms,
           r->one_thread_ms);
    for (size_t p = 0; p < PHASE_COUNT; p++) {
        printf("%s\"%s\":%.4f", p ? "," : "", phase_name((enum phase)p), r->phase_share[p]);
    }
    printf("}}\n");
}

static void print_text(const struct offline *offline, const struct result *r)
{
    const struct encoder *encoder = offline->model->encoder;
    printf("%s, %s on %s, %u thread%s, batches of %zu tokens\n", offline->model->name,
           precision_name(encoder_precision(encoder)), isa_name(encoder_isa(encoder)),
           offline->threads, offline->threads == 1 ? "" : "s", offline->batch_tokens);
    printf("%zu sentences, %llu tokens (mean %.1f), best pass: %.3f s\n", r->sentences,
           (unsigned long long)r->tokens, (double)r->tokens / (double)r->sentences, r->seconds);
    printf("%10.1f sentences/s\n%10.0f tokens/s\n%10.1f GFLOP/s\n",
           (double)r->sentences / r->seconds, (double)r->tokens / r->seconds, r->gflops);
    if (r->peak_gflops > 0) {
        printf("%10.1f %% of the %.1f GFLOP/s that these threads reach between registers\n",
               100 * r->gflops / r->peak_gflops, r->peak_gflops);
    }
    printf("%10.2f ms one sentence alone, all threads on it (median)\n", r->alone_ms);
    printf("%10.2f ms one sentence alone, one thread\n", r->one_thread_ms);
    for (size_t p = 0; p < PHASE_COUNT; p++) {
        printf("%9.1f %% %s\n", r->phase_share[p] * 100, phase_name((enum phase)p));
    }
}

static enum err_code bench(const struct offline *offline, const struct bench_flags *flags,
                           struct err *err)
{
    struct texts texts;
    struct result result = {0};
    enum err_code code = open_texts(flags->input, &texts, err);
    if (code != ERR_OK) {
        return code;
    }
    code = measure(offline, &texts, flags->passes, &result, err);
    if (code == ERR_OK) {
        (flags->json ? print_json : print_text)(offline, &result);
    }
    texts_done(&texts);
    return code;
}

int command_bench(int argc, char **argv)
{
    struct bench_flags f = {.passes = PASSES};
    const struct flag flags[] = {
        OFFLINE_FLAG_MODEL(f.offline.model_dir),
        OFFLINE_FLAG_INPUT(f.input, "512 built-in sentences"),
        {"batch-tokens", 0, FLAG_SIZE, &f.offline.batch_tokens, "N", "1024",
         "token budget of one packed batch", 2, 1 << 20, false},
        OFFLINE_FLAGS_ENCODER(f.offline),
        {"passes", 0, FLAG_UINT, &f.passes, "N", "3", "passes over the texts, the best counts", 1,
         1000, false},
        {"json", 0, FLAG_BOOL, &f.json, NULL, "off", "one JSON object", 0, 0, false},
        {0},
    };
    const struct command command = {
        .name = "bench",
        .arguments = "",
        .summary = "Measures the encoder offline: throughput on all threads and its share of what "
                   "the machine could do, one sentence alone, and the share of each phase.",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    struct offline offline;
    enum err_code code = offline_open(&f.offline, &offline, &err);
    if (code == ERR_OK) {
        code = bench(&offline, &f, &err);
        offline_close(&offline);
    }
    return code == ERR_OK ? EXIT_DONE : command_fail("bench", &err);
}
