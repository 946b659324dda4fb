#include "base/rate.h"

#include "base/clock.h"

bool rate_take(struct rate *rate, uint64_t *ret_held_back)
{
    uint64_t now_ns = clock_now_ns();
    (void)pthread_mutex_lock(&rate->lock);
    if (rate->at_ns == 0) {
        rate->level = rate->burst;
    } else {
        rate->level += rate->per_s * (double)(now_ns - rate->at_ns) / (double)NS_PER_S;
    }
    rate->level = rate->level < rate->burst ? rate->level : rate->burst;
    rate->at_ns = now_ns;
    bool taken = rate->level >= 1;
    if (taken) {
        rate->level -= 1;
        *ret_held_back = rate->held_back;
        rate->held_back = 0;
    } else {
        rate->held_back++;
    }
    (void)pthread_mutex_unlock(&rate->lock);
    return taken;
}
