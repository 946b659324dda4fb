#include "train/network/crew.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct member {
    struct crew *crew;
    unsigned number;
    pthread_t thread;
};

struct crew {
    unsigned width;
    unsigned started; /* threads to join */
    struct member *members;
    pthread_mutex_t lock;
    pthread_cond_t begin; /* a run or the end has come */
    pthread_cond_t done;
    /* Under lock. */
    unsigned long run; /* counts runs */
    unsigned working;  /* threads not yet through with this run */
    bool stop;
    void (*work)(void *context, struct part part);
    void *context;
    struct team team;
};

static void *member_main(void *argument)
{
    struct member *member = argument;
    struct crew *crew = member->crew;
    unsigned long seen = 0;
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (crew->run == seen && !crew->stop) {
            pthread_cond_wait(&crew->begin, &crew->lock);
        }
        if (crew->stop) {
            break;
        }
        seen = crew->run;
        pthread_mutex_unlock(&crew->lock);
        crew->work(crew->context, (struct part){&crew->team, member->number});
        pthread_mutex_lock(&crew->lock);
        if (--crew->working == 0) {
            pthread_cond_signal(&crew->done);
        }
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

enum err_code crew_create(unsigned width, struct crew **ret_crew, struct err *err)
{
    struct crew *crew = calloc(1, sizeof *crew);
    if (!crew) {
        return err_nomem(err, sizeof *crew);
    }
    crew->width = width;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->begin, NULL);
    pthread_cond_init(&crew->done, NULL);
    crew->members = calloc(width, sizeof *crew->members);
    if (!crew->members) {
        crew_destroy(crew);
        return err_nomem(err, width * sizeof *crew->members);
    }
    for (unsigned i = 1; i < width; i++) {
        crew->members[i] = (struct member){.crew = crew, .number = i};
        int failed = pthread_create(&crew->members[i].thread, NULL, member_main, &crew->members[i]);
        if (failed) {
            crew_destroy(crew);
            return err_set_errno(err, ERR_IO, failed, "starting thread %u of %u", i + 1, width);
        }
        crew->started++;
    }
    *ret_crew = crew;
    return ERR_OK;
}

void crew_destroy(struct crew *crew)
{
    if (!crew) {
        return;
    }
    pthread_mutex_lock(&crew->lock);
    crew->stop = true;
    pthread_cond_broadcast(&crew->begin);
    pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 1; i <= crew->started; i++) {
        pthread_join(crew->members[i].thread, NULL);
    }
    pthread_cond_destroy(&crew->done);
    pthread_cond_destroy(&crew->begin);
    pthread_mutex_destroy(&crew->lock);
    free(crew->members);
    free(crew);
}

unsigned crew_width(const struct crew *crew)
{
    return crew->width;
}

void crew_run(struct crew *crew, void (*work)(void *context, struct part part), void *context)
{
    team_init(&crew->team, crew->width);
    pthread_mutex_lock(&crew->lock);
    crew->work = work;
    crew->context = context;
    crew->working = crew->width - 1;
    crew->run++;
    pthread_cond_broadcast(&crew->begin);
    pthread_mutex_unlock(&crew->lock);

    work(context, (struct part){&crew->team, 0});

    pthread_mutex_lock(&crew->lock);
    while (crew->working > 0) {
        pthread_cond_wait(&crew->done, &crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
}
