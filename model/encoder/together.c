/* One forward pass on threads that are started for it. */
#include <pthread.h>

#include "model/encoder/encoder.h"

enum { HELPERS_MAX = TOGETHER_MAX - 1 };

/* What the members share. */
struct together {
    const struct encoder *encoder;
    struct workspace *workspace;
    const struct batch *batch;
    enum pooling pooling;
    const struct outputs *out;
    struct team team;
    pthread_mutex_t gate; /* held until the team's width is known */
};

struct helper {
    struct together *together;
    unsigned member;
    struct scratch *scratch;
    pthread_t thread;
};

static void *help(void *argument)
{
    struct helper *helper = argument;
    struct together *together = helper->together;
    (void)pthread_mutex_lock(&together->gate);
    (void)pthread_mutex_unlock(&together->gate);
    encoder_assist(together->encoder, together->workspace, together->batch, together->pooling,
                   &together->team, helper->member, helper->scratch, together->out);
    return NULL;
}

/* False where memory or a thread can't be had. */
static bool start(struct helper *helper)
{
    struct together *together = helper->together;
    if (scratch_create(together->encoder, together->batch->total, &helper->scratch, NULL) !=
        ERR_OK) {
        return false;
    }
    if (pthread_create(&helper->thread, NULL, help, helper) != 0) {
        scratch_destroy(helper->scratch);
        return false;
    }
    return true;
}

void encoder_forward_together(const struct encoder *encoder, struct workspace *workspace,
                              const struct batch *batch, enum pooling pooling, unsigned threads,
                              const struct outputs *out)
{
    struct together together = {
        .encoder = encoder,
        .workspace = workspace,
        .batch = batch,
        .pooling = pooling,
        .out = out,
        .gate = PTHREAD_MUTEX_INITIALIZER,
    };
    struct helper helpers[HELPERS_MAX];
    unsigned n = 0;
    (void)pthread_mutex_lock(&together.gate);
    while (n + 1 < threads && n < HELPERS_MAX) {
        helpers[n] = (struct helper){.together = &together, .member = n + 1};
        if (!start(&helpers[n])) {
            break; /* the others do its work */
        }
        n++;
    }
    team_init(&together.team, n + 1);
    (void)pthread_mutex_unlock(&together.gate);
    encoder_forward(encoder, workspace, batch, pooling, &together.team, out);
    for (unsigned i = 0; i < n; i++) {
        (void)pthread_join(helpers[i].thread, NULL);
        scratch_destroy(helpers[i].scratch);
    }
    (void)pthread_mutex_destroy(&together.gate);
}
