/* /decode: token ids → texts; answered where it is prepared. */
#include <stdlib.h>

#include "api/response_heads.h"
#include "server/answer/answer_private.h"

/* A token's text is a few bytes; more than this is no honest answer. */
enum { DECODE_RESPONSE_MAX = 256 * 1024 * 1024 };

static bool write_texts(struct job *job, const struct tokenizer *tokenizer)
{
    struct buf text;
    buf_init(&text, DECODE_RESPONSE_MAX);
    buf_init(&job->response, DECODE_RESPONSE_MAX);
    enum err_code code = ERR_OK;
    (void)buf_append_char(&job->response, '[');
    for (size_t i = 0; code == ERR_OK && i < job->request.n; i++) {
        const struct api_input *input = &job->request.inputs[i];
        buf_clear(&text);
        code = tokenizer_decode(tokenizer, input->ids, input->n_ids, job->request.skip_special,
                                &text, NULL);
        job->total_tokens += input->n_ids;
        response_text(text.data ? text.data : "", text.size, i == 0, &job->response);
    }
    (void)buf_append_char(&job->response, ']');
    bool full = buf_full(&text) || buf_full(&job->response);
    bool failed = code != ERR_OK || buf_failed(&job->response);
    buf_done(&text);
    if (full) {
        return problem_set(&job->problem, PROBLEM_BODY_LARGE, NULL,
                           "the answer would be larger than %d MiB; send fewer ids",
                           DECODE_RESPONSE_MAX / (1024 * 1024));
    }
    return !failed || answer_no_memory(job);
}

bool decode_answer(struct job *job, const struct engine *engine)
{
    const struct tokenizer *tokenizer = engine->model->tokenizer;
    if (!tokenizer_can_decode(tokenizer)) {
        return problem_set(&job->problem, PROBLEM_NO_DECODER, NULL,
                           "this model's tokenizer.json names no decoder that is known here");
    }
    size_t ids = 0;
    for (size_t i = 0; i < job->request.n; i++) {
        ids += job->request.inputs[i].n_ids;
    }
    if (!engine_reserve(engine, job, ids)) {
        return false;
    }
    bool written = write_texts(job, tokenizer);
    engine_release(engine, job);
    return written;
}
