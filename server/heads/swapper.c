#include "server/heads/swapper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct swapper {
    atomic_flag claimed;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;
    void (*task)(void *argument);
    void *argument;
    bool stopping;
};

static void *run(void *argument)
{
    struct swapper *swapper = argument;
    (void)pthread_setname_np(pthread_self(), "swapper");
    (void)pthread_mutex_lock(&swapper->lock);
    while (!swapper->stopping || swapper->task) {
        if (!swapper->task) {
            (void)pthread_cond_wait(&swapper->wake, &swapper->lock);
            continue;
        }
        void (*task)(void *) = swapper->task;
        swapper->task = NULL;
        (void)pthread_mutex_unlock(&swapper->lock);
        task(swapper->argument);
        (void)pthread_mutex_lock(&swapper->lock);
    }
    (void)pthread_mutex_unlock(&swapper->lock);
    return NULL;
}

enum err_code swapper_create(struct swapper **ret_swapper, struct err *err)
{
    struct swapper *swapper = calloc(1, sizeof *swapper);
    if (!swapper) {
        return err_nomem(err, sizeof *swapper);
    }
    atomic_flag_clear(&swapper->claimed);
    (void)pthread_mutex_init(&swapper->lock, NULL);
    (void)pthread_cond_init(&swapper->wake, NULL);
    int failed = pthread_create(&swapper->thread, NULL, run, swapper);
    if (failed) {
        swapper_destroy(swapper);
        return err_set_errno(err, ERR_IO, failed, "thread");
    }
    swapper->started = true;
    *ret_swapper = swapper;
    return ERR_OK;
}

void swapper_destroy(struct swapper *swapper)
{
    if (!swapper) {
        return;
    }
    if (swapper->started) {
        (void)pthread_mutex_lock(&swapper->lock);
        swapper->stopping = true;
        (void)pthread_cond_signal(&swapper->wake);
        (void)pthread_mutex_unlock(&swapper->lock);
        (void)pthread_join(swapper->thread, NULL);
    }
    (void)pthread_cond_destroy(&swapper->wake);
    (void)pthread_mutex_destroy(&swapper->lock);
    free(swapper);
}

bool swapper_claim(struct swapper *swapper)
{
    return !atomic_flag_test_and_set(&swapper->claimed);
}

void swapper_run(struct swapper *swapper, void (*task)(void *argument), void *argument)
{
    (void)pthread_mutex_lock(&swapper->lock);
    swapper->task = task;
    swapper->argument = argument;
    (void)pthread_cond_signal(&swapper->wake);
    (void)pthread_mutex_unlock(&swapper->lock);
}

void swapper_release(struct swapper *swapper)
{
    atomic_flag_clear(&swapper->claimed);
}
