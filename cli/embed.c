/* orthrus embed: bulk embedding of a file of lines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/facts.h"
#include "base/size.h"
#include "cli/command.h"
#include "cli/corpus.h"
#include "cli/flags.h"
#include "cli/offline.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "model/space.h"

enum { FACTS_MAX = 1024 * 1024, TEXT_MAX = 256 * 1024 * 1024 };

struct embed_flags {
    struct offline_flags offline;
    struct corpus_options corpus;
    const char *output;
    const char *format, *dtype;
    const char *shard;
    const char *prompt_name;             /* NULL: the folder's default */
    signed char normalize, no_normalize; /* FLAG_SWITCH */
    bool resume;
};

/* The ids of a window's texts, until its vectors come. */
struct ids {
    struct buf bytes;
    size_t starts[BULK_WINDOW_TEXTS + 1];
};

/* Command lifetime. */
struct embed {
    const struct offline *offline;
    const struct embed_flags *flags;
    struct corpus corpus;
    struct target target;
    struct ids *ids;    /* [bulk_slots], owned; NULL without --id-field */
    struct buf rows;    /* of one window */
    const char *prompt; /* before every text; NULL: none */
    struct buf text;    /* prompt and text */
    struct buf facts;
    struct progress progress;
    struct space space;
    uint64_t skipped;   /* texts that an earlier run has done */
    uint64_t announced; /* rows the header was promised; UINT64_MAX: none */
    uint64_t truncated;
    bool normalize, noted;
};

/* ---- the stream ---- */

static enum err_code keep_id(struct embed *embed, const struct bulk_window *window, struct err *err)
{
    struct ids *ids = &embed->ids[bulk_window_slot(window)];
    size_t n = bulk_window_n(window); /* its text is in already */
    if (n == 1) {
        buf_clear(&ids->bytes);
        ids->starts[0] = 0;
    }
    buf_append(&ids->bytes, embed->corpus.id.data, embed->corpus.id.size);
    if (!buf_append_char(&ids->bytes, '\0')) {
        return err_nomem(err, ids->bytes.size);
    }
    ids->starts[n] = ids->bytes.size;
    return ERR_OK;
}

static enum err_code add_text(struct embed *embed, struct bulk_window *window,
                              const struct line *text, struct err *err)
{
    const struct tokenizer *tokenizer = embed->offline->model->tokenizer;
    if (!embed->prompt) {
        return bulk_add_text(window, tokenizer, text->text, text->size, err);
    }
    buf_clear(&embed->text);
    buf_append_str(&embed->text, embed->prompt);
    if (!buf_append(&embed->text, text->text, text->size)) {
        return err_nomem(err, text->size);
    }
    return bulk_add_text(window, tokenizer, embed->text.data, embed->text.size, err);
}

static enum err_code fill(void *context, struct bulk_window *window, bool wait, bool *ret_end,
                          struct err *err)
{
    struct embed *embed = context;
    struct corpus *corpus = &embed->corpus;
    while (bulk_window_room(window) > 0) {
        struct line text;
        enum reader_state state;
        enum err_code code = corpus_next(corpus, wait && bulk_window_n(window) == 0, &state, &text,
                                         err);
        if (code != ERR_OK || state != READER_LINE) {
            *ret_end = code == ERR_OK && state == READER_END;
            return code;
        }
        if (corpus->texts > embed->announced) {
            return err_set(err, ERR_CONFLICT, "%s: grew while it was read", corpus->reader.label);
        }
        code = add_text(embed, window, &text, err);
        if (code == ERR_OK && embed->ids) {
            code = keep_id(embed, window, err);
        }
        if (code != ERR_OK) {
            return code;
        }
    }
    return ERR_OK;
}

/* Once, where neither flag is given; behind the first vectors, so that an error stands alone. */
static void note_normalize(struct embed *embed)
{
    if (!embed->noted && !embed->flags->normalize && !embed->flags->no_normalize) {
        (void)fprintf(stderr, "orthrus embed: vectors are normalized, as /embed does (0.1 left "
                              "them as they are); --normalize or --no-normalize says which\n");
    }
    embed->noted = true;
}

static enum err_code take(void *context, const struct bulk_window *window, float *rows,
                          struct err *err)
{
    struct embed *embed = context;
    struct target *target = &embed->target;
    const struct target_options *options = &target->options;
    size_t n = bulk_window_n(window);
    const struct ids *ids = embed->ids ? &embed->ids[bulk_window_slot(window)] : NULL;
    if (!vector_apply(embed->offline->model->vector, rows, n)) {
        return err_nomem(err, options->width * sizeof *rows);
    }
    if (embed->normalize) {
        embeddings_normalize(rows, n, options->width);
    }
    buf_clear(&embed->rows);
    for (size_t i = 0; i < n; i++) {
        const char *id = ids ? ids->bytes.data + ids->starts[i] : NULL;
        if (!vector_append(options->format, options->dtype, rows + i * options->width,
                           options->width, id, &embed->rows)) {
            return buf_failed(&embed->rows)
                       ? err_nomem(err, embed->rows.size)
                       : err_set(err, ERR_INVALID, "text %zu: its vector is too large for fp16",
                                 target->rows + i + 1);
        }
    }
    embed->truncated += bulk_window_truncated(window);
    note_normalize(embed);
    return target_put(target, &embed->rows, n, err);
}

static void on_done(void *context, uint64_t done)
{
    struct embed *embed = context;
    const struct reader *reader = &embed->corpus.reader;
    uint64_t size = reader_file_size(reader);
    /* The lines ahead are taken to be as long as those behind. */
    if (size > 0 && reader->offset > 0) {
        double share = (double)reader->offset / (double)size;
        uint64_t seen = embed->corpus.texts - embed->skipped;
        embed->progress.total = share < 1 ? (uint64_t)((double)seen / share) : seen;
    }
    progress_update(&embed->progress, done);
}

/* ---- what --resume must find unchanged ---- */

static enum err_code add_input_facts(struct embed *embed, struct err *err)
{
    struct stat st;
    const struct reader *reader = &embed->corpus.reader;
    struct buf *facts = &embed->facts;
    facts_add(facts, "--input", reader->label);
    if (!reader->regular) {
        return ERR_OK;
    }
    if (fstat(reader->fd, &st) != 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", reader->label);
    }
    facts_add_number(facts, "--input of size", (double)st.st_size);
    facts_add_number(facts, "--input changed at",
                     (double)st.st_mtim.tv_sec + (double)st.st_mtim.tv_nsec / 1e9);
    return ERR_OK;
}

static enum err_code make_facts(struct embed *embed, struct err *err)
{
    enum err_code code = space_make(embed->offline->model, embed->offline->model->config.pooling,
                                    embed->offline->max_length, &embed->space, err);
    if (code != ERR_OK) {
        return code;
    }
    const struct embed_flags *flags = embed->flags;
    const struct offline *offline = embed->offline;
    const struct encoder *encoder = offline->model->encoder;
    struct buf *facts = &embed->facts;
    facts_begin(facts);
    facts_add(facts, "the encoder", offline->model->encoder_sha256);
    facts_add(facts, "--format", flags->format);
    facts_add(facts, "--dtype", flags->dtype);
    facts_add(facts, "--normalize", embed->normalize ? "on" : "off");
    facts_add(facts, "--precision", precision_name(encoder_precision(encoder)));
    facts_add(facts, "--isa", isa_name(encoder_isa(encoder)));
    facts_add(facts, "attention", precision_name(encoder_attention(encoder)));
    char pooling[POOLING_TEXT_SIZE];
    facts_add(facts, "the embedding space", embed->space.id);
    facts_add(facts, "--prompt-name", embed->prompt ? embed->prompt : "(none)");
    facts_add(facts, "pooling", pooling_name(offline->model->config.pooling, pooling));
    facts_add_number(facts, "--max-length", (double)offline->max_length);
    facts_add(facts, "--field", flags->corpus.field ? flags->corpus.field : "(nothing)");
    facts_add(facts, "--id-field", flags->corpus.id_field ? flags->corpus.id_field : "(nothing)");
    facts_add(facts, "--shard", flags->shard ? flags->shard : "0/1");
    code = add_input_facts(embed, err);
    if (code != ERR_OK) {
        return code;
    }
    return facts_end(facts) ? ERR_OK : err_nomem(err, facts->size);
}

/* ---- the manifest ---- */

static enum err_code write_manifest(struct embed *embed, const char *sha256, struct err *err)
{
    struct target *target = &embed->target;
    const struct target_options *options = &target->options;
    const struct model *model = embed->offline->model;
    struct buf json;
    struct stat st;
    if (!target->manifest) {
        return ERR_OK;
    }
    if (fstat(target->fd, &st) != 0) {
        return err_set_errno(err, ERR_IO, errno, "%s", target->label);
    }
    buf_init(&json, FACTS_MAX);
    buf_printf(&json, "{\n  \"rows\": %llu,\n  \"columns\": %zu,\n  \"dimensions\": %zu,\n",
               (unsigned long long)target->rows, vector_columns(options->dtype, options->width),
               options->width);
    buf_printf(&json, "  \"format\": \"%s\",\n  \"dtype\": \"%s\",\n",
               vector_format_name(options->format), vector_dtype_name(options->dtype));
    buf_printf(&json, "  \"bytes\": %lld,\n  \"sha256\": \"%s\",\n", (long long)st.st_size, sha256);
    buf_printf(&json, "  \"lines\": %llu,\n  \"shard\": %llu,\n  \"shards\": %llu,\n",
               (unsigned long long)embed->corpus.reader.line,
               (unsigned long long)embed->corpus.options.shard,
               (unsigned long long)embed->corpus.options.shards);
    buf_printf(&json, "  \"model\": ");
    jval_append_string(&json, model->name, strlen(model->name));
    buf_printf(&json, ",\n  \"encoder_sha256\": \"%s\",\n  \"normalized\": %s,\n",
               model->encoder_sha256, embed->normalize ? "true" : "false");
    buf_printf(&json, "  \"embedding_space\": \"%s\",\n", embed->space.id);
    buf_printf(&json, "  \"orthrus\": \"%s\",\n  \"settings\": ", ORTHRUS_VERSION);
    buf_append(&json, embed->facts.data, embed->facts.size);
    buf_append_str(&json, "\n}\n");
    enum err_code code = buf_failed(&json) ? err_nomem(err, json.size)
                                           : target_manifest(target, &json, err);
    buf_done(&json);
    return code;
}

/* ---- the command ---- */

static enum err_code check_flags(struct embed_flags *flags, struct target_options *target,
                                 struct err *err)
{
    enum err_code code = vector_format_parse(flags->format, &target->format, err);
    if (code == ERR_OK) {
        code = vector_dtype_parse(flags->dtype, &target->dtype, err);
    }
    if (code == ERR_OK && flags->shard) {
        code = corpus_parse_shard(flags->shard, &flags->corpus.shard, &flags->corpus.shards, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (flags->normalize != 0 && flags->normalize == flags->no_normalize) {
        return err_set(err, ERR_USAGE, "--normalize: not together with --no-normalize");
    }
    if (flags->corpus.id_field && target->format == VECTOR_NPY) {
        return err_set(err, ERR_USAGE,
                       "--id-field: only with --format ndjson; rows of npy keep the lines' order");
    }
    if (flags->corpus.id_field && !flags->corpus.field) {
        flags->corpus.field = "text";
    }
    target->path = flags->output;
    target->resume = flags->resume;
    return ERR_OK;
}

/* Opens both ends and puts the stream where an earlier run stopped. */
static enum err_code open_ends(struct embed *embed, struct target_options *options, struct err *err)
{
    struct corpus *corpus = &embed->corpus;
    if (target_is_file(options, corpus->reader.fd)) {
        return err_set(err, ERR_USAGE, "--output: is the same file as the input");
    }
    enum err_code code = make_facts(embed, err);
    if (code != ERR_OK) {
        return code;
    }
    options->facts = embed->facts.data;
    code = target_open(options, &embed->target, err);
    if (code != ERR_OK || embed->target.complete) {
        return code;
    }
    bool npy = options->format == VECTOR_NPY;
    if (npy && !embed->target.seekable) {
        if (!corpus->reader.regular) {
            return err_set(err, ERR_USAGE,
                           "--format npy: a pipe to a pipe can't be done, its header holds the "
                           "number of rows; give -i FILE or -o FILE");
        }
        code = corpus_count(corpus, &embed->announced, err);
    }
    embed->skipped = embed->target.rows;
    if (code == ERR_OK && npy && embed->target.rows == 0) {
        code = target_header(&embed->target, embed->announced == UINT64_MAX ? 0 : embed->announced,
                             err);
    }
    return code == ERR_OK ? corpus_skip(corpus, embed->target.rows, err) : code;
}

static enum err_code run(struct embed *embed, struct err *err)
{
    const struct bulk_stream stream = {
        .context = embed, .fill = fill, .take = take, .on_done = on_done};
    char sha256[SHA256_HEX_SIZE + 1];
    progress_start(&embed->progress, "embedding", "sentences", 0);
    enum err_code code = bulk_run(embed->offline->bulk, &stream, err);
    progress_end(&embed->progress, embed->target.rows - embed->skipped);
    if (code == ERR_OK && embed->announced != UINT64_MAX &&
        embed->target.rows != embed->announced) {
        code = err_set(err, ERR_CONFLICT, "%s: shrank while it was read",
                       embed->corpus.reader.label);
    }
    if (code == ERR_OK) {
        code = target_finish(&embed->target, sha256, err);
    }
    if (code == ERR_OK) {
        code = write_manifest(embed, sha256, err);
    }
    if (code == ERR_OK && embed->truncated > 0) {
        (void)fprintf(stderr, "orthrus embed: %llu texts were cut at %zu tokens (--max-length)\n",
                      (unsigned long long)embed->truncated, embed->offline->max_length);
    }
    return code;
}

/* The prompt that --prompt-name or the folder's default names. */
static enum err_code choose_prompt(struct embed *embed, struct err *err)
{
    const struct model *model = embed->offline->model;
    const struct config_lists *lists = model->config.lists;
    const char *name = embed->flags->prompt_name;
    const struct prompt *prompt = name ? config_prompt(&model->config, name)
                                       : lists->default_prompt;
    if (name && name[0] && !prompt) {
        struct buf names;
        buf_init(&names, 4096);
        for (size_t i = 0; i < lists->n_prompts; i++) {
            buf_printf(&names, "%s%s", i ? ", " : "", tensor_shown_name(lists->prompts[i].name));
        }
        enum err_code code = err_set(err, ERR_USAGE, "--prompt-name: the model's prompts are: %.*s",
                                     (int)size_min(size_max(names.size, 4), 400),
                                     names.size ? names.data : "none");
        buf_done(&names);
        return code;
    }
    embed->prompt = prompt && prompt->text[0] ? prompt->text : NULL;
    size_t skip;
    enum err_code code = model_prompt_skip(model, embed->prompt, embed->offline->max_length, &skip,
                                           err);
    if (code == ERR_OK) {
        bulk_leave_out(embed->offline->bulk, skip);
    }
    return code;
}

static enum err_code open_buffers(struct embed *embed, size_t width, struct err *err)
{
    size_t slots = bulk_slots(embed->offline->bulk);
    /* Longer than any float's text with its comma, and an id with its frame. */
    buf_init(&embed->rows, BULK_WINDOW_TEXTS * (width * 24 + 65536));
    buf_init(&embed->facts, FACTS_MAX);
    buf_init(&embed->text, TEXT_MAX);
    if (!embed->flags->corpus.id_field) {
        return ERR_OK;
    }
    embed->ids = calloc(slots, sizeof *embed->ids);
    if (!embed->ids) {
        return err_nomem(err, slots * sizeof *embed->ids);
    }
    for (size_t i = 0; i < slots; i++) {
        buf_init(&embed->ids[i].bytes, (size_t)BULK_WINDOW_TEXTS * 65536);
    }
    return ERR_OK;
}

static enum err_code embed(const struct offline *offline, const struct embed_flags *flags,
                           struct target_options *options, struct err *err)
{
    struct embed embed = {.offline = offline,
                          .flags = flags,
                          .announced = UINT64_MAX,
                          .normalize = flags->normalize >= 0 && flags->no_normalize <= 0};
    options->width = vector_out(offline->model->vector);
    enum err_code code = open_buffers(&embed, options->width, err);
    if (code == ERR_OK) {
        code = choose_prompt(&embed, err);
    }
    if (code == ERR_OK) {
        code = corpus_open(&flags->corpus, &embed.corpus, err);
    }
    if (code == ERR_OK) {
        code = open_ends(&embed, options, err);
    }
    if (code == ERR_OK && embed.target.complete) {
        (void)fprintf(stderr, "orthrus embed: %s is complete already\n", embed.target.label);
    } else if (code == ERR_OK) {
        code = run(&embed, err);
    }
    for (size_t i = 0; embed.ids && i < bulk_slots(offline->bulk); i++) {
        buf_done(&embed.ids[i].bytes);
    }
    free(embed.ids);
    buf_done(&embed.facts);
    buf_done(&embed.rows);
    buf_done(&embed.text);
    target_close(&embed.target);
    corpus_close(&embed.corpus);
    return code;
}

static const char details[] =
    "A line is a text, and its vector is a line: [0.1,…]. With --field each line is a JSON object\n"
    "and that member is the text; with --id-field a result is {\"id\": …, \"embedding\": […]}.\n\n"
    "FILE is written as FILE.partial and renamed when it is complete; FILE.manifest.json then "
    "says\n"
    "how many rows it has, in which embedding space, and its SHA-256. A run that died goes on "
    "with\n"
    "--resume, to the same bytes. Shards 0/N to N-1/N of one input cover every line once: line k,\n"
    "counted from 0, is in shard k mod N.\n\n"
    "Lines that come through a pipe are answered as they come; at most 1,024 are taken together.\n";

int command_embed(int argc, char **argv)
{
    struct embed_flags f = {.format = "ndjson", .dtype = "fp32", .corpus = {.shards = 1}};
    const struct flag flags[] = {
        OFFLINE_FLAG_MODEL(f.offline.model_dir),
        OFFLINE_FLAG_INPUT(f.corpus.input, "standard input"),
        {"output", 'o', FLAG_STRING, &f.output, "FILE", "standard output",
         "where the vectors go; - is standard output", 0, 0, false},
        {"format", 0, FLAG_STRING, &f.format, "F", "ndjson",
         "ndjson: one JSON array a line; npy: one NumPy array [N,H]", 0, 0, false},
        {"dtype", 0, FLAG_STRING, &f.dtype, "D", "fp32",
         "fp32, fp16, or ubinary: one bit a dimension, numpy.packbits(x > 0)", 0, 0, false},
        {"field", 0, FLAG_STRING, &f.corpus.field, "NAME", "none",
         "lines are JSON objects, and this member is the text", 0, 0, false},
        {"id-field", 0, FLAG_STRING, &f.corpus.id_field, "NAME", "none",
         "this member of each JSON line is written beside its vector; --field is then text by "
         "default",
         0, 0, false},
        {"normalize", 0, FLAG_SWITCH, &f.normalize, NULL, "on, as /embed does",
         "divide each vector by its Euclidean norm", 0, 0, false},
        {"no-normalize", 0, FLAG_SWITCH, &f.no_normalize, NULL, "off",
         "leave the vectors as they are", 0, 0, false},
        {"prompt-name", 0, FLAG_TEXT, &f.prompt_name, "NAME", "the folder's default",
         "this prompt of the model folder before every text; \"\" for none", 0, 0, false},
        {"shard", 0, FLAG_STRING, &f.shard, "I/N", "0/1",
         "embed only every N-th line, from line I on", 0, 0, false},
        {"resume", 0, FLAG_BOOL, &f.resume, NULL, "off",
         "go on from FILE.partial of a run that died", 0, 0, false},
        OFFLINE_FLAGS_ENCODER(f.offline),
        {0},
    };
    const struct command command = {
        .name = "embed",
        .arguments = "",
        .summary = "Embeds every line of a file; the vectors keep the lines' order.",
        .details = details,
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    struct target_options options = {0};
    if (check_flags(&f, &options, &err) != ERR_OK) {
        return command_fail("embed", &err);
    }
    struct offline offline;
    enum err_code code = offline_open(&f.offline, &offline, &err);
    if (code == ERR_OK) {
        code = embed(&offline, &f, &options, &err);
        offline_close(&offline);
    }
    return code == ERR_OK ? EXIT_DONE : command_fail("embed", &err);
}
