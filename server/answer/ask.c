/* A request before its computation: body → checked request → token ids. */
#include "api/response.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/size.h"
#include "server/answer/answer_private.h"
#include "server/queue/engine.h"

enum {
    TOKENIZE_TOKENS_MAX = 1000000,
    TOKENIZE_PART = 4, /* an answer of /tokenize may take that part of the clients' bytes */
    TOKEN_BYTES = 80,  /* of JSON, as a rule */
    LARGE_TREE_BYTES = 1024 * 1024, /* of values, after which the heap is cut again */
};
/* What a token takes while its answer is made: ids, offsets and a row for the writer. */
static const size_t token_work_bytes = sizeof(struct response_token) + 8 * sizeof(int32_t);

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
        return answer_no_memory(job);
    }
    struct response_token *rows = calloc(tokens->n ? tokens->n : 1, sizeof *rows);
    if (!rows) {
        return answer_no_memory(job);
    }
    for (size_t i = 0; i < tokens->n; i++) {
        rows[i] = (struct response_token){
            .id = tokens->ids[i],
            .word = tokenizer_word(tokenizer, tokens->ids[i]),
            .special = tokens->parts[i] == TOKEN_ADDED,
            .start = tokens->starts[i],
            .stop = tokens->stops[i],
        };
    }
    response_tokens(rows, tokens->n, input->text, input->size, &job->response);
    job->total_tokens += tokens->n;
    free(rows);
    return true;
}

static bool tokenize_too_large(struct job *job, size_t most)
{
    return problem_set(&job->problem, PROBLEM_RESPONSE_LARGE, NULL,
                       "the texts have more than %zu tokens or the answer would take more than %zu "
                       "bytes, the most allowed; send fewer or shorter texts",
                       most, account_limit(job->account) / TOKENIZE_PART);
}

/* Counts first, so that what is too large costs no answer. */
static bool count_tokens(struct job *job, const struct engine *engine, struct tokens *tokens,
                         size_t *ret_total)
{
    size_t most = size_min(TOKENIZE_TOKENS_MAX,
                           account_limit(job->account) / TOKENIZE_PART / TOKEN_BYTES);
    size_t total = 0;
    size_t longest = 0;
    for (size_t i = 0; i < job->request.n; i++) {
        const struct api_input *input = &job->request.inputs[i];
        const struct encode_options options = {
            .max_length = most + 1,
            .add_special_tokens = job->request.special_tokens,
        };
        if (!job_wanted(job)) {
            return false;
        }
        if (tokenizer_encode(engine->model->tokenizer, input->text, input->size, &options, tokens,
                             NULL) != ERR_OK) {
            return answer_no_memory(job);
        }
        total += tokens->n;
        longest = size_max(longest, tokens->n);
        if (tokens->truncated || total > most) {
            return tokenize_too_large(job, most);
        }
    }
    *ret_total = total;
    return job_hold(job, total * TOKEN_BYTES + longest * token_work_bytes);
}

static bool write_texts(struct job *job, const struct engine *engine, struct tokens *tokens)
{
    buf_init(&job->response, account_limit(job->account) / TOKENIZE_PART);
    for (size_t i = 0; i < job->request.n; i++) {
        (void)buf_append_char(&job->response, i ? ',' : '[');
        if (!job_wanted(job) || !write_tokens(job, engine, &job->request.inputs[i], tokens)) {
            return false;
        }
    }
    (void)buf_append_char(&job->response, ']');
    if (!buf_failed(&job->response)) {
        return true;
    }
    /* What is appended at once is far smaller than half of the ceiling. */
    return job->response.size < job->response.ceiling / 2
               ? answer_no_memory(job)
               : tokenize_too_large(job, TOKENIZE_TOKENS_MAX);
}

static bool answer_tokenize(struct job *job, const struct engine *engine, struct tokens *tokens)
{
    size_t total = 0;
    if (!count_tokens(job, engine, tokens, &total) || !engine_reserve(engine, job, total)) {
        return false;
    }
    bool written = write_texts(job, engine, tokens);
    engine_release(engine, job);
    return written;
}

/* The prompt that stands before every text of this job; NULL for none. Heads and /analyze see the
 * plain text. */
static const char *prompt_of(const struct job *job, const struct engine *engine)
{
    const struct config_lists *lists = engine->model->config.lists;
    bool takes = job->kind == API_EMBED || job->kind == API_OPENAI || job->kind == API_TOKENIZE ||
                 job->kind == API_SIMILARITY || job->kind == API_EMBED_ALL;
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
            return answer_no_memory(job);
        }
        memcpy(mempcpy(text, prompt, prompt_size), input->text, input->size);
        input->text = text;
        input->size = size;
    }
    return true;
}

/* Where the folder says include_prompt false, pooling leaves the prompt's tokens out: of windows
 * the first alone begins with it. */
static bool note_prompt(struct job *job, const struct engine *engine, const char *prompt)
{
    size_t skip = 0;
    if (model_prompt_skip(engine->model, prompt, engine->max_length, &skip, NULL) != ERR_OK) {
        return answer_no_memory(job);
    }
    if (skip > 0) {
        job->skips = calloc(job->texts, sizeof *job->skips);
        if (!job->skips) {
            return answer_no_memory(job);
        }
    }
    for (size_t i = 0; skip > 0 && i < job->request.n; i++) {
        job->skips[answer_first(job->answer, i)] = job->request.inputs[i].text ? skip : 0;
    }
    return true;
}

static bool prepare(struct job *job, const struct engine *engine)
{
    /* What request_parse says is always enough, the texts once more, each behind a prompt. */
    size_t ceiling;
    if (!size_mul(job->body_size, 10, &ceiling) ||
        !size_add(ceiling, (64 + engine->longest_prompt) * engine->limits.client_batch + 64 * 1024,
                  &ceiling)) {
        return answer_no_memory(job);
    }
    arena_init(&job->arena, ceiling);
    /* The bytes of texts stand in the tree of values and in the arena once more each. */
    size_t tree = request_tree_bytes(job->kind, job->body, job->body_size, &engine->limits);
    size_t work;
    if (!size_add(2 * job->body_size, tree, &work)) {
        return answer_no_memory(job);
    }
    if (!job_hold(job, work)) {
        return false;
    }
    bool parsed = request_parse(job->kind, job->body, job->body_size, &engine->limits, &job->arena,
                                &job->request, &job->problem);
    if (tree >= LARGE_TREE_BYTES) {
        heap_return();
    }
    if (!parsed) {
        return false;
    }
    job_drop_body(job);
    if (job->kind == API_DECODE) {
        return decode_answer(job, engine);
    }
    const char *prompt = prompt_of(job, engine);
    if (!add_prompt(job, prompt)) {
        return false;
    }
    if (job->kind == API_TOKENIZE) {
        struct tokens tokens = {0};
        bool answered = answer_tokenize(job, engine, &tokens);
        tokens_done(&tokens);
        return answered;
    }
    if (!asked_take(job, engine) || !pieces_make(job, engine) ||
        !note_prompt(job, engine, prompt)) {
        return false;
    }
    const struct answer *answer = job->answer;
    if (!answer->offsets && !job->request.return_text) {
        /* The answer needs no text any more. */
        arena_done(&job->arena);
        job->request.inputs = NULL;
    }
    return job_hold(job, answer_bytes(job, engine)) && asked_room(job, engine);
}

bool answer_prepare(struct job *job, const struct engine *engine)
{
    uint64_t begin_ns = clock_now_ns();
    bool prepared = prepare(job, engine);
    job->tokenize_ns = clock_now_ns() - begin_ns;
    return prepared;
}
