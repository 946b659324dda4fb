#include "cli/alone.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"

/* What the members of the team share, for one alone_measure. */
struct alone {
    const struct offline *offline;
    const struct line *const *texts; /* [n] */
    size_t n;
    struct workspace *workspace;
    struct batch batch; /* one text */
    float *out;         /* [H] */
    struct team team;
    bool over;            /* behind a barrier: the members may go */
    pthread_mutex_t gate; /* held until the team's width is known */
};

struct member {
    struct alone *alone;
    unsigned number;
    struct scratch *scratch;
    pthread_t thread;
};

static void *follow(void *argument)
{
    struct member *member = argument;
    struct alone *alone = member->alone;
    (void)pthread_mutex_lock(&alone->gate);
    (void)pthread_mutex_unlock(&alone->gate);
    for (;;) {
        team_barrier(&alone->team);
        if (alone->over) {
            return NULL;
        }
        const struct model *model = alone->offline->model;
        encoder_assist(model->encoder, alone->workspace, &alone->batch, model->config.pooling,
                       &alone->team, member->number, member->scratch,
                       &(struct outputs){.pooled = alone->out});
    }
}

static enum err_code lead(struct alone *alone, double *ret_ms, struct err *err)
{
    const struct encode_options options = {.max_length = alone->offline->max_length,
                                           .add_special_tokens = true};
    struct tokens tokens = {0};
    enum err_code code = ERR_OK;
    /* The first text comes twice: once to warm pages and threads. */
    for (size_t i = 0; i <= alone->n; i++) {
        const struct line *text = alone->texts[i ? i - 1 : 0];
        uint64_t start = clock_now_ns();
        code = tokenizer_encode(alone->offline->model->tokenizer, text->text, text->size, &options,
                                &tokens, err);
        if (code != ERR_OK) {
            break;
        }
        batch_clear(&alone->batch);
        CHECK(batch_add(&alone->batch, tokens.ids, tokens.n));
        team_barrier(&alone->team);
        const struct model *model = alone->offline->model;
        encoder_forward(model->encoder, alone->workspace, &alone->batch, model->config.pooling,
                        &alone->team, &(struct outputs){.pooled = alone->out});
        ret_ms[i ? i - 1 : 0] = (double)(clock_now_ns() - start) / (double)NS_PER_MS;
    }
    alone->over = true;
    team_barrier(&alone->team);
    tokens_done(&tokens);
    return code;
}

static enum err_code run(struct alone *alone, struct member *members, unsigned width,
                         double *ret_ms, struct err *err)
{
    if (pthread_mutex_init(&alone->gate, NULL) != 0) {
        return err_nomem(err, sizeof alone->gate);
    }
    (void)pthread_mutex_lock(&alone->gate);
    unsigned started = 1; /* the leader is this thread */
    for (; started < width; started++) {
        members[started] = (struct member){.alone = alone, .number = started};
        if (scratch_create(alone->offline->model->encoder, alone->offline->max_length,
                           &members[started].scratch, NULL) != ERR_OK ||
            pthread_create(&members[started].thread, NULL, follow, &members[started]) != 0) {
            scratch_destroy(members[started].scratch);
            break; /* where a thread can't be had, the others do its work */
        }
    }
    team_init(&alone->team, started);
    (void)pthread_mutex_unlock(&alone->gate);
    enum err_code code = lead(alone, ret_ms, err);
    for (unsigned i = 1; i < started; i++) {
        (void)pthread_join(members[i].thread, NULL);
        scratch_destroy(members[i].scratch);
    }
    (void)pthread_mutex_destroy(&alone->gate);
    return code;
}

enum err_code alone_measure(const struct offline *offline, const struct line *const *texts,
                            size_t n, unsigned width, double *ret_ms, struct err *err)
{
    size_t length = offline->max_length;
    struct alone alone = {.offline = offline, .texts = texts, .n = n};
    struct member *members = calloc(width, sizeof *members);
    alone.out = calloc(vector_in(offline->model->vector), sizeof *alone.out);
    enum err_code code = workspace_create(offline->model->encoder, 1, length, &alone.workspace,
                                          err);
    if (code == ERR_OK && (!members || !alone.out || !batch_init(&alone.batch, 1, length))) {
        code = err_nomem(err, length * sizeof(int32_t));
    }
    if (code == ERR_OK) {
        code = run(&alone, members, width, ret_ms, err);
    }
    batch_done(&alone.batch);
    workspace_destroy(alone.workspace);
    free(alone.out);
    free(members);
    return code;
}
