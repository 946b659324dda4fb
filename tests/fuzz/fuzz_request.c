/* Any bytes as a body of any route: the first byte picks the route. What is accepted must keep the
 * promises of api/request.h; what is refused must say why in valid JSON. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api/request.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/jval.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct api_limits limits = {
    .client_batch = 32, .hidden = 384, .max_length = 16, .vocab = 1000};

static void check_input(const struct api_input *input)
{
    if (input->ids) {
        CHECK(input->n_ids >= 1 && input->n_ids <= limits.max_length);
        for (size_t i = 0; i < input->n_ids; i++) {
            CHECK(input->ids[i] >= 0 && (size_t)input->ids[i] < limits.vocab);
        }
    } else {
        CHECK(input->text && utf8_valid(input->text, input->size));
    }
}

static void check_request(const struct api_request *request)
{
    CHECK(request->n >= 1 && request->n <= limits.client_batch);
    CHECK(!request->single || request->n == 1);
    CHECK(request->dimensions <= limits.hidden);
    CHECK(request->tasks < 1u << API_TASKS && (request->tasks || request->n_named));
    for (size_t i = 0; i < request->n; i++) {
        check_input(&request->inputs[i]);
    }
}

static void check_problem(const struct problem *problem)
{
    CHECK(problem->kind != PROBLEM_NONE && problem->kind != PROBLEM_INTERNAL);
    struct buf out;
    buf_init(&out, 8192);
    problem_write(problem, "fuzz", &out);
    struct jval *body = NULL;
    CHECK(jval_parse(out.data, out.size, &body, NULL) == ERR_OK);
    jval_free(body);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    enum api_kind kind = (enum api_kind)(data[0] % API_KINDS);
    const char *body = (const char *)data + 1;
    size--;
    struct arena arena;
    arena_init(&arena, 8 * size + 64 * limits.client_batch + 65536);
    struct api_request request;
    struct problem problem = {.kind = PROBLEM_NONE};
    if (request_parse(kind, body, size, &limits, &arena, &request, &problem)) {
        CHECK(problem.kind == PROBLEM_NONE);
        check_request(&request);
    } else {
        check_problem(&problem);
    }
    arena_done(&arena);
    return 0;
}
