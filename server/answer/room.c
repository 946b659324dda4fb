/* How much memory vectors, heads and the answer will take. */
#include "base/size.h"
#include "server/answer/answer_private.h"
#include "server/queue/engine.h"
#include "server/queue/flights.h"

/* Bytes of JSON that a number and a label's entry take as a rule, and a text's frame. */
enum { NUMBER_BYTES = 13, LABEL_BYTES = 64, TEXT_BYTES = 512 };

/* bytes += count × each; SIZE_MAX stays. */
static void add(size_t *bytes, size_t count, size_t each)
{
    size_t more;
    if (!size_mul(count, each, &more) || !size_add(*bytes, more, bytes)) {
        *bytes = SIZE_MAX;
    }
}

size_t answer_bytes(const struct job *job, const struct engine *engine)
{
    const struct api_request *request = &job->request;
    const struct answer *answer = job->answer;
    size_t hidden = engine->model->config.hidden;
    size_t width = request->dimensions ? request->dimensions : hidden;
    bool embeds = job->kind == API_EMBED || job->kind == API_OPENAI ||
                  (job->kind == API_ANALYZE && request->tasks & API_TASK_EMBED);
    size_t bytes = 0;
    add(&bytes, job->texts, hidden * sizeof(float));
    add(&bytes, request->n, TEXT_BYTES);
    add(&bytes, engine->flights ? job->texts : 0, FLIGHTS_TEXT_BYTES);
    if (embeds) {
        add(&bytes, request->n, width * (job->raw ? sizeof(float) : NUMBER_BYTES));
    }
    if (job->kind == API_EMBED_ALL) {
        add(&bytes, job->total_tokens, hidden * (sizeof(float) + NUMBER_BYTES));
    }
    if (answer->offsets) {
        add(&bytes, job->total_tokens, 2 * sizeof(struct span_item) + LABEL_BYTES);
    }
    for (size_t i = 0; i < answer->n_asked; i++) {
        add(&bytes, job->texts, answer->asked[i].head->classes * (LABEL_BYTES + 3 * sizeof(float)));
    }
    return bytes;
}
