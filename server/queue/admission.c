#include "server/queue/admission.h"

#include "base/clock.h"
#include "base/size.h"

/* Of the throughput: how fast the bound of a standing queue shrinks. Less than 1, so that a queue
 * which no more than drains stays within it. */
#define SHRINK_RATE 0.9
/* The shrunk bound, of the whole one. */
#define SHRUNK_PART 0.1
/* The queue has been short when it was below this part of the shrunk bound: less than all workers
 * leave of it when they cut their batches at the same time. */
#define SHORT_PART 0.25
/* Of the throughput: what the automatic bound reckons with. A queue that fills brings its own
 * costs, of reading and refusing, which no batch before it has shown. */
#define SURE_PART 0.75
/* Weight of one batch in the throughput's moving average. A slower one counts more: what is in the
 * queue waits for it. */
#define LEARN_WEIGHT        0.05
#define LEARN_WEIGHT_SLOWER 0.2
/* A wait is an estimate: only one that is this much over the deadline refuses a job. */
#define HOPELESS_FACTOR 1.33

size_t admission_bound(const struct admission *admission)
{
    if (admission->fixed_tokens) {
        return admission->fixed_tokens;
    }
    size_t served = (size_t)(admission->tokens_per_s * SURE_PART * ADMISSION_QUEUE_S);
    /* Until its answer a job also waits for the batches before and for its own. */
    size_t batches = admission->busy_tokens / 2;
    return size_max(served - size_min(served, batches), admission->busy_tokens);
}

static size_t shrunk_bound(const struct admission *admission)
{
    size_t bound = admission_bound(admission);
    size_t shrunk = (size_t)((double)bound * SHRUNK_PART);
    return size_min(bound, size_max(shrunk, admission->busy_tokens));
}

size_t admission_bound_now(const struct admission *admission, uint64_t now_ns)
{
    size_t bound = admission_bound(admission);
    if (admission->full_ns == 0 || now_ns <= admission->full_ns) {
        return bound;
    }
    double standing_s = (double)(now_ns - admission->full_ns) / (double)NS_PER_S;
    double cut = standing_s * admission->tokens_per_s * SHRINK_RATE;
    size_t shrunk = shrunk_bound(admission);
    if (cut >= (double)(bound - shrunk)) {
        return shrunk;
    }
    return bound - (size_t)cut;
}

size_t admission_charge(const struct admission *admission, size_t tokens)
{
    return size_min(tokens, admission->text_tokens);
}

void admission_seen(struct admission *admission, size_t backlog, uint64_t now_ns)
{
    if ((double)backlog <= (double)shrunk_bound(admission) * SHORT_PART) {
        admission->full_ns = 0;
    } else if (admission->full_ns == 0 &&
               backlog + admission->text_tokens > admission_bound(admission)) {
        admission->full_ns = now_ns;
    }
}

void admission_learn(struct admission *admission, size_t tokens, uint64_t busy_ns, double share)
{
    if (busy_ns == 0 || share <= 0) {
        return;
    }
    double rate = (double)tokens / ((double)busy_ns / (double)NS_PER_S) / share;
    double weight = rate < admission->tokens_per_s ? LEARN_WEIGHT_SLOWER : LEARN_WEIGHT;
    admission->tokens_per_s += (rate - admission->tokens_per_s) * weight;
}

enum admission_verdict admission_ask(const struct admission *admission,
                                     const struct admission_question *question)
{
    if (question->now_ns >= question->deadline_ns) {
        return ADMISSION_HOPELESS;
    }
    if (question->requests == 0) {
        return admission->bound_requests == 0 ? ADMISSION_FULL : ADMISSION_YES;
    }
    size_t charge = admission_charge(admission, question->tokens);
    size_t now_bound = admission_bound_now(admission, question->now_ns);
    size_t bound = admission_bound(admission);
    if (question->requests >= admission->bound_requests || question->backlog > now_bound ||
        charge > now_bound - question->backlog || question->ahead > bound ||
        question->tokens > bound - question->ahead) {
        return ADMISSION_FULL;
    }
    double wait_s = (double)question->ahead / (admission->tokens_per_s * HOPELESS_FACTOR);
    double left_s = (double)(question->deadline_ns - question->now_ns) / (double)NS_PER_S;
    return wait_s > left_s ? ADMISSION_HOPELESS : ADMISSION_YES;
}
