#include <pthread.h>

#include "model/encoder/team.h"
#include "tests/support/testing.h"

enum { WIDTH_MAX = 5, ROUNDS = 2000 };

static void test_shares_cover_everything_once(void **state)
{
    (void)state;
    for (unsigned width = 1; width <= WIDTH_MAX; width++) {
        struct team team;
        team_init(&team, width);
        for (size_t n = 0; n < 70; n++) {
            for (size_t grain = 1; grain < 20; grain += 3) {
                size_t expected = 0;
                for (unsigned member = 0; member < width; member++) {
                    size_t from;
                    size_t to;
                    team_share(&team, member, n, grain, &from, &to);
                    assert_int_equal(from, expected);
                    assert_true(to >= from && to <= n);
                    assert_true(from % grain == 0 || from == n);
                    expected = to;
                }
                assert_int_equal(expected, n);
            }
        }
    }
}

struct round {
    struct team team;
    unsigned slots[WIDTH_MAX]; /* plain: only the barrier orders them */
};

struct member {
    struct round *round;
    unsigned number;
    unsigned wrong;
};

/* Each member writes its slot, and behind the barrier must see everybody's. */
static void *take_part(void *argument)
{
    struct member *member = argument;
    struct round *round = member->round;
    for (unsigned i = 1; i <= ROUNDS; i++) {
        round->slots[member->number] = i;
        team_barrier(&round->team);
        for (unsigned other = 0; other < round->team.width; other++) {
            member->wrong += round->slots[other] != i;
        }
        team_barrier(&round->team);
    }
    return NULL;
}

static void test_barrier_orders_plain_writes(void **state)
{
    (void)state;
    for (unsigned width = 1; width <= WIDTH_MAX; width++) {
        struct round round = {.slots = {0}};
        struct member members[WIDTH_MAX];
        pthread_t threads[WIDTH_MAX];
        team_init(&round.team, width);
        for (unsigned i = 0; i < width; i++) {
            members[i] = (struct member){.round = &round, .number = i};
            assert_int_equal(pthread_create(&threads[i], NULL, take_part, &members[i]), 0);
        }
        for (unsigned i = 0; i < width; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(members[i].wrong, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_cover_everything_once),
        cmocka_unit_test(test_barrier_orders_plain_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
