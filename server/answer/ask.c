/* A request before its computation: body → checked request → token ids. */
#include "server/answer/ask.h"

#include "api/response.h"
#include "base/clock.h"
#include "base/size.h"
#include "server/answer/answer.h"
#include "server/queue/engine.h"

/* A token of /tokenize costs some 70 bytes of JSON, so a body of one-letter words grows that much:
 * this bounds what one answer may hold. */
enum { TOKENIZE_RESPONSE_MAX = 256 * 1024 * 1024 };

void asked_of(const struct job *job, struct asked *ret_asked)
{
    *ret_asked = (struct asked){.n = 0};
    switch (job->kind) {
    case API_CLASSIFY:
    case API_SENTIMENT:
    case API_PREDICT:
        ret_asked->name[ret_asked->n++] = job->head;
        break;
    case API_ANALYZE:
        if (job->request.tasks & API_TASK_CLASSIFY) {
            ret_asked->name[ret_asked->n++] = "classifier";
        }
        if (job->request.tasks & API_TASK_SENTIMENT) {
            ret_asked->name[ret_asked->n++] = "sentiment";
        }
        break;
    case API_EMBED:
    case API_OPENAI:
    case API_TOKENIZE:
        break;
    }
}

bool asked_present(const struct asked *asked, const struct heads *heads, struct problem *problem)
{
    for (size_t i = 0; i < asked->n; i++) {
        if (!heads_find(heads, asked->name[i])) {
            return problem_set(problem, PROBLEM_HEAD_ABSENT, NULL,
                               "the server has no %s head in service; PUT /admin/heads brings one",
                               asked->name[i]);
        }
    }
    return true;
}

static bool out_of_memory(struct job *job)
{
    return problem_set(&job->problem, PROBLEM_INTERNAL, NULL, "out of memory");
}

/* "inputs[3]", or the field alone where it is one text. */
static void input_param(const struct job *job, size_t index, char *out, size_t size)
{
    const char *field = job->kind == API_OPENAI ? "input" : "inputs";
    if (job->request.single) {
        (void)snprintf(out, size, "%s", field);
    } else {
        (void)snprintf(out, size, "%s[%zu]", field, index);
    }
}

static bool too_long(struct job *job, size_t index, size_t max_length)
{
    char param[64];
    input_param(job, index, param, sizeof param);
    return problem_set(&job->problem, PROBLEM_TOO_LONG, param,
                       "%s has more than %zu tokens, the most allowed; send truncate: true to cut "
                       "it there",
                       param, max_length);
}

/* Appends n ids to the packed ones; *room is what is allocated. */
static bool add_ids(struct job *job, const int32_t *ids, size_t n, size_t *room)
{
    size_t want;
    if (!size_add(job->total_tokens, n, &want)) {
        return out_of_memory(job);
    }
    if (want > *room) {
        size_t doubled;
        size_t bytes;
        int32_t *grown = NULL;
        if (size_mul(*room, 2, &doubled) &&
            size_mul(size_max(want, doubled), sizeof *ids, &bytes)) {
            grown = realloc(job->ids, bytes);
        }
        if (!grown) {
            return out_of_memory(job);
        }
        job->ids = grown;
        *room = size_max(want, doubled);
    }
    if (n) {
        memcpy(job->ids + job->total_tokens, ids, n * sizeof *ids);
    }
    job->total_tokens = want;
    return true;
}

/* The prompt that stands before every text of this job; NULL for none. Heads and /analyze see the
 * plain text. */
static const char *prompt_of(const struct job *job, const struct engine *engine)
{
    const struct config_lists *lists = engine->model->config.lists;
    bool takes = job->kind == API_EMBED || job->kind == API_OPENAI || job->kind == API_TOKENIZE;
    const struct prompt *prompt = NULL;
    if (takes && job->request.prompt >= 0) {
        prompt = &lists->prompts[job->request.prompt];
    } else if (takes && job->request.prompt == API_PROMPT_DEFAULT) {
        prompt = lists->default_prompt;
    }
    return prompt && prompt->text[0] ? prompt->text : NULL;
}

/* Puts the prompt before every text, in the job's arena. */
static bool add_prompt(struct job *job, const char *prompt)
{
    size_t prompt_size = prompt ? strlen(prompt) : 0;
    for (size_t i = 0; prompt && i < job->request.n; i++) {
        struct api_input *input = &job->request.inputs[i];
        size_t size;
        if (!input->text) {
            continue;
        }
        char *text = size_add(prompt_size, input->size, &size) ? arena_alloc(&job->arena, size)
                                                               : NULL;
        if (!text) {
            return out_of_memory(job);
        }
        memcpy(text, prompt, prompt_size);
        memcpy(text + prompt_size, input->text, input->size);
        input->text = text;
        input->size = size;
    }
    return true;
}

/* Where the folder says include_prompt false, pooling leaves the prompt's tokens out. */
static bool note_prompt(struct job *job, const struct engine *engine, const char *prompt)
{
    size_t skip = 0;
    if (job->kind == API_TOKENIZE) {
        return true;
    }
    if (model_prompt_skip(engine->model, prompt, engine->max_length, &skip, NULL) != ERR_OK) {
        return out_of_memory(job);
    }
    if (skip > 0) {
        job->skips = calloc(job->request.n, sizeof *job->skips);
        if (!job->skips) {
            return out_of_memory(job);
        }
    }
    for (size_t i = 0; skip > 0 && i < job->request.n; i++) {
        job->skips[i] = job->request.inputs[i].text ? skip : 0;
    }
    return true;
}

static bool tokenize_inputs(struct job *job, const struct engine *engine, struct tokens *tokens)
{
    const struct api_request *request = &job->request;
    const struct encode_options options = {
        .max_length = engine->max_length,
        .side = request->truncate_left ? TRUNCATE_LEFT : TRUNCATE_RIGHT,
        .add_special_tokens = true,
    };
    size_t room = 0;
    job->starts[0] = 0;
    for (size_t i = 0; i < request->n; i++) {
        const struct api_input *input = &request->inputs[i];
        const int32_t *ids = input->ids;
        size_t n = input->n_ids;
        job->truncated[i] = input->truncated;
        if (input->text) {
            if (tokenizer_encode(engine->model->tokenizer, input->text, input->size, &options,
                                 tokens, NULL) != ERR_OK) {
                return out_of_memory(job);
            }
            ids = tokens->ids;
            n = tokens->n;
            job->truncated[i] = tokens->truncated;
        }
        job->n_truncated += job->truncated[i];
        if (job->truncated[i] && !request->truncate) {
            return too_long(job, i, engine->max_length);
        }
        if (!add_ids(job, ids, n, &room)) {
            return false;
        }
        job->starts[i + 1] = job->total_tokens;
    }
    return true;
}

/* One text of /tokenize. */
static bool write_tokens(struct job *job, const struct engine *engine,
                         const struct api_input *input, struct tokens *tokens)
{
    const struct encode_options options = {
        .max_length = SIZE_MAX,
        .add_special_tokens = job->request.special_tokens,
        .offsets = true,
    };
    const struct tokenizer *tokenizer = engine->model->tokenizer;
    if (tokenizer_encode(tokenizer, input->text, input->size, &options, tokens, NULL) != ERR_OK) {
        return out_of_memory(job);
    }
    struct response_token *rows = calloc(tokens->n ? tokens->n : 1, sizeof *rows);
    if (!rows) {
        return out_of_memory(job);
    }
    for (size_t i = 0; i < tokens->n; i++) {
        rows[i] = (struct response_token){
            .id = tokens->ids[i],
            .word = tokenizer_word(tokenizer, tokens->ids[i]),
            .special = options.add_special_tokens && (i == 0 || i + 1 == tokens->n),
            .start = tokens->starts[i],
            .stop = tokens->stops[i],
        };
    }
    response_tokens(rows, tokens->n, input->text, input->size, &job->response);
    job->total_tokens += tokens->n;
    free(rows);
    return true;
}

static bool answer_tokenize(struct job *job, const struct engine *engine, struct tokens *tokens)
{
    buf_init(&job->response, TOKENIZE_RESPONSE_MAX);
    for (size_t i = 0; i < job->request.n; i++) {
        (void)buf_append_char(&job->response, i ? ',' : '[');
        if (!write_tokens(job, engine, &job->request.inputs[i], tokens)) {
            return false;
        }
        if (buf_failed(&job->response)) {
            /* What is appended at once is far smaller than half of the ceiling. */
            if (job->response.size < TOKENIZE_RESPONSE_MAX / 2) {
                return out_of_memory(job);
            }
            return problem_set(
                &job->problem, PROBLEM_BODY_LARGE, NULL,
                "the answer would be larger than %d MiB; send fewer or shorter texts",
                TOKENIZE_RESPONSE_MAX / (1024 * 1024));
        }
    }
    return buf_append_char(&job->response, ']') || out_of_memory(job);
}

static bool heads_ready(struct job *job, const struct engine *engine)
{
    struct asked asked;
    asked_of(job, &asked);
    if (asked.n == 0) {
        return true;
    }
    struct heads_version version;
    headstore_acquire(engine->headstore, &version);
    bool ready = asked_present(&asked, version.heads, &job->problem);
    heads_version_release(&version);
    return ready;
}

static bool prepare(struct job *job, const struct engine *engine)
{
    /* What request_parse says is always enough, the texts once more, each behind a prompt. */
    size_t ceiling;
    if (!size_mul(job->body_size, 10, &ceiling) ||
        !size_add(ceiling, (64 + engine->longest_prompt) * engine->limits.client_batch + 64 * 1024,
                  &ceiling)) {
        return out_of_memory(job);
    }
    arena_init(&job->arena, ceiling);
    if (!request_parse(job->kind, job->body, job->body_size, &engine->limits, &job->arena,
                       &job->request, &job->problem) ||
        !heads_ready(job, engine)) {
        return false;
    }
    size_t n = job->request.n;
    job->starts = calloc(n + 1, sizeof *job->starts);
    job->truncated = calloc(n, sizeof *job->truncated);
    if (!job->starts || !job->truncated) {
        return out_of_memory(job);
    }
    struct tokens tokens = {0};
    const char *prompt = prompt_of(job, engine);
    bool prepared = add_prompt(job, prompt) && note_prompt(job, engine, prompt) &&
                    (job->kind == API_TOKENIZE ? answer_tokenize(job, engine, &tokens)
                                               : tokenize_inputs(job, engine, &tokens));
    tokens_done(&tokens);
    return prepared;
}

bool answer_prepare(struct job *job, const struct engine *engine)
{
    uint64_t begin_ns = clock_now_ns();
    bool prepared = prepare(job, engine);
    job->tokenize_ns = clock_now_ns() - begin_ns;
    return prepared;
}
