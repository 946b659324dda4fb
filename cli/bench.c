/* orthrus bench: offline encoder throughput, time per phase, share of the machine's limit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jval.h"
#include "base/size.h"
#include "cli/alone.h"
#include "cli/bulk.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/peak.h"
#include "cli/progress.h"

enum { PASSES = 3, ALONE_TEXTS = 64 };

struct bench_flags {
    struct bulk_flags bulk;
    const char *input;
    unsigned passes;
    bool json;
};

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
static enum err_code make_sentences(struct lines *ret_lines, struct err *err)
{
    enum { SENTENCES = 512 };
    static const char *const words[] = {
        "the", "river", "was", "low", "that",  "summer", "and",  "nobody", "in",  "town", "would",
        "say", "why",   "it",  "had", "never", "come",   "back", "to",     "its", "old",  "bed"};
    enum { WORDS = sizeof words / sizeof *words };
    struct buf text;
    buf_init(&text, (size_t)1 << 20);
    uint64_t state = 42;
    for (size_t i = 0; i < SENTENCES; i++) {
        /* Knuth's MMIX generator: any will do, it has to be the same everywhere. */
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t length = 5 + (state >> 33) % 37;
        for (size_t w = 0; w < length; w++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            buf_append_str(&text, words[(state >> 33) % WORDS]);
            buf_append_char(&text, w + 1 < length ? ' ' : '\n');
        }
    }
    struct lines lines = {.n = SENTENCES};
    size_t size;
    lines.data = buf_steal(&text, &size);
    lines.at = calloc(SENTENCES, sizeof *lines.at);
    if (!lines.data || !lines.at) {
        lines_done(&lines);
        return err_nomem(err, SENTENCES * sizeof *lines.at);
    }
    char *p = lines.data;
    for (size_t i = 0; i < SENTENCES; i++) {
        char *newline = strchr(p, '\n');
        lines.at[i] = (struct line){p, (size_t)(newline - p)};
        p = newline + 1;
    }
    *ret_lines = lines;
    return ERR_OK;
}

static enum err_code pass(struct bulk *bulk, const struct lines *lines, float *rows,
                          struct err *err)
{
    for (size_t done = 0; done < lines->n;) {
        size_t n = size_min(lines->n - done, BULK_CHUNK_TEXTS);
        enum err_code code = bulk_embed(bulk, lines->at + done, n, rows, err);
        if (code != ERR_OK) {
            return code;
        }
        done += n;
    }
    return ERR_OK;
}

static void forget(struct bulk *bulk)
{
    bulk->encode_ns = bulk->tokens = 0;
    bulk->flops = 0;
    memset(bulk->phase_ns, 0, sizeof bulk->phase_ns);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum err_code median_alone(const struct bulk *bulk, const struct lines *lines,
                                  unsigned width, double *ret_ms, struct err *err)
{
    const struct line *texts[ALONE_TEXTS];
    double ms[ALONE_TEXTS];
    size_t n = size_min(lines->n, ALONE_TEXTS);
    for (size_t i = 0; i < n; i++) {
        texts[i] = &lines->at[i * (lines->n / n)];
    }
    enum err_code code = alone_measure(bulk, texts, n, width, ms, err);
    if (code == ERR_OK) {
        qsort(ms, n, sizeof *ms, ascending);
        *ret_ms = ms[n / 2];
    }
    return code;
}

static enum err_code measure_passes(struct bulk *bulk, const struct lines *lines, float *rows,
                                    unsigned passes, struct progress *progress,
                                    struct result *result, struct err *err)
{
    enum err_code code = pass(bulk, lines, rows, err); /* warms caches and pages */
    for (unsigned i = 0; i < passes && code == ERR_OK; i++) {
        progress_update(progress, (uint64_t)i + 1);
        forget(bulk);
        uint64_t start = clock_now_ns();
        code = pass(bulk, lines, rows, err);
        double seconds = (double)(clock_now_ns() - start) / 1e9;
        if (i && seconds >= result->seconds) {
            continue;
        }
        result->seconds = seconds;
        result->tokens = bulk->tokens;
        result->gflops = bulk->flops / seconds / 1e9;
        for (size_t p = 0; p < PHASE_COUNT; p++) {
            result->phase_share[p] = bulk->encode_ns
                                         ? (double)bulk->phase_ns[p] / (double)bulk->encode_ns
                                         : 0;
        }
    }
    return code;
}

static enum err_code measure(struct bulk *bulk, const struct lines *lines, float *rows,
                             unsigned passes, struct result *result, struct err *err)
{
    struct progress progress;
    progress_start(&progress, "measuring", "passes", (uint64_t)passes + 2);
    *result = (struct result){.sentences = lines->n};
    enum err_code code = measure_passes(bulk, lines, rows, passes, &progress, result, err);
    if (code == ERR_OK) {
        progress_update(&progress, (uint64_t)passes + 1);
        code = median_alone(bulk, lines, bulk->threads, &result->alone_ms, err);
    }
    if (code == ERR_OK) {
        code = median_alone(bulk, lines, 1, &result->one_thread_ms, err);
    }
    if (code == ERR_OK) {
        const struct encoder *encoder = bulk->model->encoder;
        result->peak_gflops = peak_gflops(encoder_isa(encoder), encoder_precision(encoder),
                                          bulk->threads);
    }
    progress_end(&progress, (uint64_t)passes + 2);
    return code;
}

static void print_json(const struct bulk *bulk, const struct result *r)
{
    const struct encoder *encoder = bulk->model->encoder;
    printf("{\"model\":\"%s\",\"precision\":\"%s\",\"isa\":\"%s\",\"threads\":%u,"
           "\"batch_tokens\":%zu,\"sentences\":%zu,\"tokens\":%llu,\"sentences_per_s\":%.1f,"
           "\"tokens_per_s\":%.0f,\"gflops\":%.1f,",
           bulk->model->name, precision_name(encoder_precision(encoder)),
           isa_name(encoder_isa(encoder)), bulk->threads, bulk->batch_tokens, r->sentences,
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

static void print_text(const struct bulk *bulk, const struct result *r)
{
    const struct encoder *encoder = bulk->model->encoder;
    printf("%s, %s on %s, %u thread%s, batches of %zu tokens\n", bulk->model->name,
           precision_name(encoder_precision(encoder)), isa_name(encoder_isa(encoder)),
           bulk->threads, bulk->threads == 1 ? "" : "s", bulk->batch_tokens);
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

static enum err_code bench(struct bulk *bulk, const struct bench_flags *flags, struct err *err)
{
    struct lines lines;
    enum err_code code = flags->input ? lines_read(flags->input, &lines, err)
                                      : make_sentences(&lines, err);
    if (code != ERR_OK) {
        return code;
    }
    size_t hidden = bulk->model->config.hidden;
    float *rows = calloc((size_t)BULK_CHUNK_TEXTS * hidden, sizeof *rows);
    struct result result = {0};
    if (!lines.n) {
        code = err_set(err, ERR_INVALID, "the input has no lines");
    } else if (!rows) {
        code = err_nomem(err, BULK_CHUNK_TEXTS * hidden * sizeof *rows);
    } else {
        code = measure(bulk, &lines, rows, flags->passes, &result, err);
    }
    if (code == ERR_OK) {
        (flags->json ? print_json : print_text)(bulk, &result);
    }
    free(rows);
    lines_done(&lines);
    return code;
}

int command_bench(int argc, char **argv)
{
    struct bench_flags f = {.passes = PASSES};
    const struct flag flags[] = {
        BULK_FLAG_MODEL(f.bulk),
        {"input", 'i', FLAG_STRING, &f.input, "FILE", "512 built-in sentences",
         "one text a line, UTF-8", 0, 0, false},
        {"batch-tokens", 0, FLAG_SIZE, &f.bulk.batch_tokens, "N", "1024",
         "token budget of one packed batch", 2, 1 << 20, false},
        BULK_FLAGS_ENCODER(f.bulk),
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
    struct bulk bulk;
    enum err_code code = bulk_open(&f.bulk, &bulk, &err);
    if (code == ERR_OK) {
        code = bench(&bulk, &f, &err);
        bulk_close(&bulk);
    }
    return code == ERR_OK ? EXIT_DONE : command_fail("bench", &err);
}
