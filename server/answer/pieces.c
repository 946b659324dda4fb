/* Inputs → the token sequences that are computed: one for each, or overlapping windows. */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "server/answer/answer_private.h"

/* While the sequences of a job are put side by side. */
struct builder {
    struct job *job;
    const struct engine *engine;
    struct answer *answer;
    struct tokens tokens, window;
    size_t room;        /* tokens allocated */
    size_t pieces_room; /* starts allocated, less one */
    size_t types;       /* token types of the model */
};

void answer_param(const struct job *job, size_t input, char *out, size_t size)
{
    const char *field = job->kind == API_OPENAI ? "input" : "inputs";
    if (job->kind == API_RERANK) {
        (void)snprintf(out, size, "texts[%zu]", input);
    } else if (job->kind == API_SIMILARITY && input == 0) {
        (void)snprintf(out, size, "inputs.source_sentence");
    } else if (job->kind == API_SIMILARITY) {
        (void)snprintf(out, size, "inputs.sentences[%zu]", input - 1);
    } else if (job->request.single) {
        (void)snprintf(out, size, "%s", field);
    } else {
        (void)snprintf(out, size, "%s[%zu]", field, input);
    }
}

static bool too_long(struct builder *builder, size_t input)
{
    char param[64];
    answer_param(builder->job, input, param, sizeof param);
    return problem_set(&builder->job->problem, PROBLEM_TOO_LONG, param,
                       "%s has more than %zu tokens, the most allowed; send truncate: true to cut "
                       "it there",
                       param, builder->engine->max_length);
}

static bool too_many_windows(struct builder *builder, size_t input)
{
    char param[64];
    answer_param(builder->job, input, param, sizeof param);
    return problem_set(&builder->job->problem, PROBLEM_TOO_MANY, param,
                       "the inputs make too many windows; at most %zu are allowed in one request",
                       builder->engine->limits.client_batch);
}

static bool grow_one(void **array, size_t count, size_t size)
{
    size_t bytes;
    void *grown = size_mul(count, size, &bytes) ? realloc(*array, bytes) : NULL;
    if (grown) {
        *array = grown;
    }
    return grown;
}

static bool grow_tokens(struct builder *builder, size_t want)
{
    struct job *job = builder->job;
    struct answer *answer = builder->answer;
    size_t room = size_max(want, builder->room + builder->room / 2);
    bool whole = grow_one((void **)&job->ids, room, sizeof *job->ids) &&
                 grow_one((void **)&job->types, room, sizeof *job->types);
    if (whole && answer->offsets) {
        whole = grow_one((void **)&answer->starts, room, sizeof *answer->starts) &&
                grow_one((void **)&answer->stops, room, sizeof *answer->stops) &&
                grow_one((void **)&answer->parts, room, sizeof *answer->parts);
    }
    builder->room = whole ? room : builder->room;
    return whole || answer_no_memory(job);
}

static bool grow_pieces(struct builder *builder)
{
    struct job *job = builder->job;
    size_t room = size_max(builder->pieces_room + builder->pieces_room / 2, job->texts + 1);
    if (!grow_one((void **)&job->starts, room + 1, sizeof *job->starts)) {
        return answer_no_memory(job);
    }
    builder->pieces_room = room;
    return true;
}

/* One more sequence: tokens, or the client's ids where tokens is NULL. */
static bool add_piece(struct builder *builder, const struct tokens *tokens,
                      const struct api_input *input)
{
    struct job *job = builder->job;
    struct answer *answer = builder->answer;
    size_t from = job->total_tokens;
    size_t n = tokens ? tokens->n : input->n_ids;
    size_t want;
    if (!size_add(from, n, &want)) {
        return answer_no_memory(job);
    }
    if ((want > builder->room && !grow_tokens(builder, want)) ||
        (job->texts == builder->pieces_room && !grow_pieces(builder))) {
        return false;
    }
    memcpy(job->ids + from, tokens ? tokens->ids : input->ids, n * sizeof *job->ids);
    for (size_t i = 0; i < n; i++) {
        /* A tokenizer may know types that the model has no vectors for. */
        job->types[from + i] = tokens && tokens->types[i] < builder->types ? tokens->types[i] : 0;
    }
    if (answer->offsets && tokens) {
        memcpy(answer->starts + from, tokens->starts, n * sizeof *answer->starts);
        memcpy(answer->stops + from, tokens->stops, n * sizeof *answer->stops);
        memcpy(answer->parts + from, tokens->parts, n * sizeof *answer->parts);
    }
    job->total_tokens = want;
    job->texts++;
    job->starts[job->texts] = want;
    return true;
}

static bool add_whole(struct builder *builder, size_t index)
{
    struct job *job = builder->job;
    const struct api_request *request = &job->request;
    const struct api_input *input = &request->inputs[index];
    const struct tokenizer *tokenizer = builder->engine->model->tokenizer;
    const struct encode_options options = {
        .max_length = builder->engine->max_length,
        .side = request->truncate_left ? TRUNCATE_LEFT : TRUNCATE_RIGHT,
        .add_special_tokens = true,
        .offsets = builder->answer->offsets,
    };
    job->truncated[index] = input->truncated;
    if (input->text) {
        const struct tokenizer_text pair[2] = {{input->text, input->size},
                                               {input->second, input->second_size}};
        enum err_code code = input->second ? tokenizer_encode_pair(tokenizer, pair, &options,
                                                                   &builder->tokens, NULL)
                                           : tokenizer_encode(tokenizer, input->text, input->size,
                                                              &options, &builder->tokens, NULL);
        if (code != ERR_OK) {
            return answer_no_memory(job);
        }
        job->truncated[index] = builder->tokens.truncated;
    }
    job->n_truncated += job->truncated[index];
    if (job->truncated[index] && !request->truncate) {
        return too_long(builder, index);
    }
    return add_piece(builder, input->text ? &builder->tokens : NULL, input);
}

/* True where a word begins at token t: a space stands before it in the text. */
static bool word_begins(const struct tokens *tokens, size_t t)
{
    return t == 0 || tokens->stops[t - 1] < tokens->starts[t];
}

/* The last place at or before `at`, behind `least`, where a word begins; `at` itself where one word
 * fills all of it. */
static size_t word_start(const struct tokens *tokens, size_t least, size_t at)
{
    size_t t = at;
    while (t > least && !word_begins(tokens, t)) {
        t--;
    }
    return t > least ? t : at;
}

/* Overlapping windows of whole words, a quarter of each in the one before it. */
static bool add_windows(struct builder *builder, size_t index)
{
    struct job *job = builder->job;
    const struct api_input *input = &job->request.inputs[index];
    const struct tokenizer *tokenizer = builder->engine->model->tokenizer;
    size_t most = builder->engine->limits.client_batch;
    size_t capacity = builder->engine->max_length - tokenizer_added(tokenizer, false);
    size_t limit;
    if (!input->text) {
        char param[64];
        answer_param(job, index, param, sizeof param);
        return problem_set(&job->problem, PROBLEM_FIELD_VALUE, param,
                           "%s is token ids; windows are made of texts", param);
    }
    if (!size_mul(capacity, most, &limit)) {
        limit = SIZE_MAX;
    }
    const struct encode_options options = {.max_length = limit, .offsets = true};
    if (tokenizer_encode(tokenizer, input->text, input->size, &options, &builder->tokens, NULL) !=
        ERR_OK) {
        return answer_no_memory(job);
    }
    const struct tokens *tokens = &builder->tokens;
    size_t from = 0;
    size_t to;
    do {
        to = tokens->n - from > capacity ? word_start(tokens, from + capacity / 2, from + capacity)
                                         : tokens->n;
        if (job->texts == most || (tokens->truncated && to == tokens->n)) {
            return too_many_windows(builder, index);
        }
        if (tokenizer_frame(tokenizer, tokens, from, to - from, &builder->window, NULL) != ERR_OK) {
            return answer_no_memory(job);
        }
        if (!add_piece(builder, &builder->window, input)) {
            return false;
        }
        from = word_start(tokens, from + capacity / 4, to - (to - from) / 4);
    } while (to < tokens->n);
    return true;
}

static bool add_all(struct builder *builder)
{
    struct job *job = builder->job;
    struct answer *answer = builder->answer;
    size_t n = job->request.n;
    job->truncated = calloc(n, sizeof *job->truncated);
    answer->first = job->request.windows ? calloc(n + 1, sizeof *answer->first) : NULL;
    if (!job->truncated || (job->request.windows && !answer->first)) {
        return answer_no_memory(job);
    }
    builder->pieces_room = 0;
    if (!grow_pieces(builder)) {
        return false;
    }
    job->starts[0] = 0;
    for (size_t i = 0; i < n; i++) {
        if (!job_wanted(job)) {
            return false;
        }
        if (!(job->request.windows ? add_windows(builder, i) : add_whole(builder, i))) {
            return false;
        }
        if (answer->first) {
            answer->first[i + 1] = job->texts;
        }
    }
    return true;
}

bool pieces_make(struct job *job, const struct engine *engine)
{
    struct builder builder = {
        .job = job,
        .engine = engine,
        .answer = job->answer,
        .types = engine->model->config.token_types ? engine->model->config.types : 1};
    bool made = add_all(&builder);
    tokens_done(&builder.tokens);
    tokens_done(&builder.window);
    if (!made) {
        job->texts = 0;
    }
    return made;
}
