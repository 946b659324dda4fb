#include "server/routes/handler_admin.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jval.h"
#include "base/sha256.h"
#include "server/heads/headstore.h"
#include "server/heads/shadow.h"
#include "server/heads/swapper.h"
#include "server/queue/engine.h"

enum { SWAP_ANSWER_BYTES = 1024 };

/* One swap on its way. Request lifetime. */
struct swap {
    struct exchange *x;
    struct headstore *store;
    bool rollback, stage, promote, drop;
    bool may_stage;     /* of PUT: ?stage=shadow is allowed */
    const char *remove; /* DELETE: the head that goes; borrowed from the path */
    uint64_t version;   /* rollback's target, 0: the one before */
    bool dry_run;
    char if_match[SHA256_HEX_SIZE + 1]; /* "" for none */
    enum swap_result result;
    struct heads_version now, previous;
    struct err err;
};

static void begin(struct exchange *x)
{
    if (server_phase(x->server) == SERVER_STOPPING) {
        exchange_fail(x, PROBLEM_DRAINING, NULL, "the server is shutting down");
    } else if (!server_engine(x->server)) {
        exchange_fail(x, PROBLEM_NOT_READY, NULL, "the model is being loaded");
    }
}

static void append_text(struct buf *out, const char *text)
{
    jval_append_string(out, text, strlen(text));
}

static void append_head(struct buf *out, const struct head *head)
{
    if (!head) {
        buf_append_str(out, "null");
        return;
    }
    buf_printf(out, "{\"weight\":[%zu,%zu],\"bias\":[%zu],\"labels\":[", head->classes,
               head->inner ? head->inner : head->width, head->classes);
    for (size_t i = 0; i < head->classes; i++) {
        buf_append_str(out, i ? "," : "");
        append_text(out, head->labels[i]);
    }
    buf_append_str(out, "]}");
}

/* ,"named":{…}: the heads without a place of their own. */
static void append_others(struct buf *out, const struct heads *heads)
{
    bool first = true;
    buf_append_str(out, ",\"named\":{");
    for (size_t i = 0; i < heads->n; i++) {
        const struct head *head = &heads->list[i];
        if (strcmp(head->name, "classifier") != 0 && strcmp(head->name, "sentiment") != 0) {
            buf_printf(out, "%s\"%s\":", first ? "" : ",", head->name);
            append_head(out, head);
            first = false;
        }
    }
    buf_append_char(out, '}');
}

static void append_version(struct buf *out, const struct heads_version *version, bool active)
{
    char loaded[32];
    clock_format_wall(version->loaded_wall_ns, loaded, sizeof loaded);
    buf_printf(out,
               "{\"version\":%" PRIu64 ",\"id\":\"%s\",\"active\":%s,\"sha256\":\"%s\","
               "\"source_sha256\":\"%s\",\"bytes\":%zu,\"loaded_at\":\"%s\",\"source\":",
               version->version, version->id, active ? "true" : "false", version->heads->sha256,
               version->source_sha256, version->heads->file_size, loaded);
    append_text(out, version->source);
    const struct heads *heads = version->heads;
    buf_append_str(out, ",\"classifier\":");
    append_head(out, heads_find(heads, "classifier"));
    buf_append_str(out, ",\"sentiment\":");
    append_head(out, heads_find(heads, "sentiment"));
    append_others(out, heads);
    buf_append_char(out, '}');
}

static bool list(struct exchange *x)
{
    struct headstore *store = server_engine(x->server)->headstore;
    struct buf *out = &x->reply.body;
    struct heads_version versions[HEADSTORE_KEPT];
    char refusal[ERR_TEXT_MAX];
    size_t n = headstore_list(store, versions, refusal);
    bool first = true;
    buf_printf(out, "{\"managed\":%s,\"refused\":", headstore_managed(store) ? "true" : "false");
    if (refusal[0]) {
        append_text(out, refusal);
    } else {
        buf_append_str(out, "null");
    }
    buf_append_str(out, ",\"versions\":[");
    for (size_t i = 0; i < n; i++) {
        if (versions[i].heads) {
            buf_append_str(out, first ? "" : ",");
            append_version(out, &versions[i], i == 0);
            first = false;
        }
    }
    buf_append_str(out, "]}");
    if (n && versions[0].heads) {
        exchange_header(x, "ETag", "\"%s\"", versions[0].heads->sha256);
    }
    for (size_t i = 0; i < n; i++) {
        heads_version_release(&versions[i]);
    }
    exchange_reply(x, 200, "application/json");
    return false;
}

static void release_version(void *state)
{
    heads_version_release(state);
    free(state);
}

/* A whole decimal number from 1, or 0. */
static uint64_t parse_version(const char *text)
{
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    bool digits = *text && strspn(text, "0123456789") == strlen(text);
    return digits && !errno ? value : 0;
}

static bool file(struct exchange *x)
{
    uint64_t wanted = parse_version(routes_rest(x->route, x->path));
    struct heads_version versions[HEADSTORE_KEPT];
    struct heads_version *kept = calloc(1, sizeof *kept);
    size_t n = kept ? headstore_list(server_engine(x->server)->headstore, versions, NULL) : 0;
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        if (!found && versions[i].heads && versions[i].version == wanted) {
            *kept = versions[i];
            found = true;
        } else {
            heads_version_release(&versions[i]);
        }
    }
    if (!found) {
        bool memory = kept != NULL;
        free(kept);
        exchange_fail(x, memory ? PROBLEM_VERSION_UNKNOWN : PROBLEM_INTERNAL, NULL,
                      memory ? "no such version is kept; GET /admin/heads lists them"
                             : "no memory for the answer");
        return false;
    }
    x->state = kept;
    x->state_free = release_version;
    exchange_header(x, "ETag", "\"%s\"", kept->heads->sha256);
    exchange_reply_fixed(x, 200, "application/octet-stream", kept->heads->file,
                         kept->heads->file_size);
    return false;
}

static void release_swap(void *state)
{
    struct swap *swap = state;
    heads_version_release(&swap->now);
    heads_version_release(&swap->previous);
    free(swap);
}

static struct swap *make_swap(struct exchange *x)
{
    struct swap *swap = calloc(1, sizeof *swap);
    /* Room for the answer comes first: a swap that has been made must not end in 500. */
    if (!swap || !buf_reserve(&x->reply.body, SWAP_ANSWER_BYTES)) {
        free(swap);
        exchange_fail(x, PROBLEM_INTERNAL, NULL, "no memory for the request");
        return NULL;
    }
    swap->x = x;
    swap->store = server_engine(x->server)->headstore;
    x->state = swap;
    x->state_free = release_swap;
    return swap;
}

/* If-Match: "<sha256>" or *. What is neither can't be the active set's: the guard fails (412). */
static bool take_if_match(struct exchange *x, struct swap *swap)
{
    const char *text = x->headers.if_match;
    if (!text) {
        return true;
    }
    if (strcmp(text, "*") == 0) {
        (void)snprintf(swap->if_match, sizeof swap->if_match, "*");
        return true;
    }
    size_t hex = strspn(text + (*text == '"'), "0123456789abcdef");
    if (strlen(text) != SHA256_HEX_SIZE + 2 || *text != '"' || hex != SHA256_HEX_SIZE ||
        text[SHA256_HEX_SIZE + 1] != '"') {
        exchange_fail(x, PROBLEM_PRECONDITION, "If-Match",
                      "If-Match: one quoted SHA-256 in lower-case hexadecimal, or *, is allowed");
        return false;
    }
    memcpy(swap->if_match, text + 1, SHA256_HEX_SIZE);
    return true;
}

static bool names_stage(const char *argument)
{
    return strncmp(argument, "stage", 5) == 0 && strcspn(argument, "=&") == 5;
}

/* One argument of the query: dry_run bare, true or 1; false or 0. */
static bool take_argument(struct exchange *x, struct swap *swap, const char *text, size_t size)
{
    static const char name[] = "dry_run";
    static const struct {
        const char *text;
        bool dry_run;
    } values[] = {{"", true}, {"=true", true}, {"=1", true}, {"=false", false}, {"=0", false}};
    static const char stage[] = "stage=shadow";
    size_t name_size = sizeof name - 1;
    if (swap->may_stage && size == sizeof stage - 1 && strncmp(text, stage, size) == 0) {
        swap->stage = true;
        return true;
    }
    if (swap->may_stage && names_stage(text)) {
        exchange_fail(x, PROBLEM_FIELD_VALUE, "stage", "stage: shadow is allowed");
        return false;
    }
    if (strcspn(text, "=&") != name_size || strncmp(text, name, name_size) != 0) {
        exchange_fail(x, PROBLEM_FIELD_UNKNOWN, NULL,
                      "an argument of the query is not known; dry_run%s allowed",
                      swap->may_stage ? " and stage are" : " is");
        return false;
    }
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (strlen(values[i].text) == size - name_size &&
            strncmp(text + name_size, values[i].text, size - name_size) == 0) {
            swap->dry_run = values[i].dry_run;
            return true;
        }
    }
    exchange_fail(x, PROBLEM_FIELD_VALUE, name,
                  "dry_run: no value, true, 1, false or 0 is allowed");
    return false;
}

/* What is mistyped here would change what serves, so nothing is passed over. */
static bool take_query(struct exchange *x, struct swap *swap)
{
    bool dry_run_seen = false;
    for (const char *at = x->query; *at;) {
        size_t size = strcspn(at, "&");
        bool staging = names_stage(at);
        if (size && (staging ? swap->stage : dry_run_seen && strncmp(at, "dry_run", 7) == 0)) {
            const char *name = staging ? "stage" : "dry_run";
            exchange_fail(x, PROBLEM_FIELD_DUPLICATE, name, "%s may stand only once", name);
            return false;
        }
        if (size && !take_argument(x, swap, at, size)) {
            return false;
        }
        dry_run_seen = dry_run_seen || (size > 0 && !staging);
        at += size + (at[size] == '&');
    }
    return true;
}

/* Suspends when the swapper is free. */
static bool claim(struct exchange *x)
{
    if (server_phase(x->server) == SERVER_STOPPING) {
        exchange_fail(x, PROBLEM_DRAINING, NULL, "the server is shutting down");
        return false;
    }
    if (!swapper_claim(x->server->swapper)) {
        const struct swap *swap = x->state;
        headstore_turned_away(swap->store, x->key_id,
                              swap->rollback ? "rollback"
                              : swap->remove ? "delete"
                                             : "put");
        exchange_fail(x, PROBLEM_SWAP_BUSY, NULL, "another swap is in progress");
        return false;
    }
    return true;
}

static bool put(struct exchange *x)
{
    struct swap *swap = make_swap(x);
    if (swap) {
        swap->may_stage = true;
    }
    if (!swap || !take_if_match(x, swap) || !take_query(x, swap)) {
        return false;
    }
    if (x->body.size == 0) {
        exchange_fail(x, PROBLEM_EMPTY_BODY, NULL, "the body must be a heads file");
        return false;
    }
    return claim(x);
}

/* A version as JSON writes it: a number without a fraction, from 1, that a double holds exactly. */
static bool is_version(const struct jval *member, double *ret)
{
    const double most = 9007199254740991.0;
    return jval_double(member, ret) && *ret >= 1 && *ret <= most && trunc(*ret) == *ret;
}

/* {"version": n}, {} or nothing. */
static bool take_rollback(struct exchange *x, struct swap *swap)
{
    struct jval *body = NULL;
    double version = 0;
    if (x->body.size == 0) {
        return true;
    }
    enum err_code code = jval_depth_ok(x->body.data, x->body.size, 4)
                             ? jval_parse_body(x->body.data, x->body.size, &body, NULL)
                             : ERR_INVALID;
    if (code == ERR_NOMEM) {
        exchange_fail(x, PROBLEM_INTERNAL, NULL, "no memory for the request");
        return false;
    }
    if (code == ERR_CONFLICT) {
        exchange_fail(x, PROBLEM_FIELD_DUPLICATE, NULL, "a field is there twice in one object");
        return false;
    }
    if (code != ERR_OK) {
        exchange_fail(x, PROBLEM_NOT_JSON, NULL, "the body must be JSON: {\"version\": n}");
        return false;
    }
    const struct jval *member = jval_get(body, "version");
    bool ok = jval_is_object(body) && jval_object_size(body) == (member ? 1 : 0) &&
              (!member || jval_is_null(member) || is_version(member, &version));
    jval_free(body);
    if (!ok) {
        exchange_fail(x, PROBLEM_FIELD_VALUE, "version",
                      "an object whose only member is version, an integer from 1, is allowed");
        return false;
    }
    swap->version = (uint64_t)version;
    return true;
}

static bool rollback(struct exchange *x)
{
    struct swap *swap = make_swap(x);
    if (!swap || !take_if_match(x, swap) || !take_query(x, swap) || !take_rollback(x, swap)) {
        return false;
    }
    swap->rollback = true;
    return claim(x);
}

static bool delete_head(struct exchange *x)
{
    struct swap *swap = make_swap(x);
    if (!swap || !take_if_match(x, swap) || !take_query(x, swap)) {
        return false;
    }
    swap->remove = routes_rest(x->route, x->path);
    return claim(x);
}

static bool promote(struct exchange *x)
{
    struct swap *swap = make_swap(x);
    if (!swap || !take_if_match(x, swap) || !take_query(x, swap)) {
        return false;
    }
    swap->promote = true;
    return claim(x);
}

static bool drop(struct exchange *x)
{
    struct swap *swap = make_swap(x);
    if (!swap || !take_if_match(x, swap) || !take_query(x, swap)) {
        return false;
    }
    swap->drop = true;
    return claim(x);
}

static bool report(struct exchange *x)
{
    if (!shadow_report(server_engine(x->server)->headstore, &x->reply.body)) {
        exchange_fail(x, PROBLEM_SHADOW_ABSENT, NULL,
                      "no heads are staged; PUT /admin/heads?stage=shadow stages some");
    } else {
        exchange_reply(x, 200, "application/json");
    }
    return false;
}

/* On the swapper's thread. */
static void run_swap(void *argument)
{
    struct swap *swap = argument;
    struct exchange *x = swap->x;
    struct swapper *swapper = x->server->swapper;
    const char *if_match = swap->if_match[0] ? swap->if_match : NULL;
    if (swap->rollback) {
        swap->result = headstore_rollback(swap->store, swap->version, if_match, swap->dry_run,
                                          x->key_id, &swap->now, &swap->previous, &swap->err);
    } else if (swap->promote) {
        swap->result = shadow_promote(swap->store, if_match, swap->dry_run, x->key_id, &swap->now,
                                      &swap->previous, &swap->err);
    } else if (swap->drop) {
        swap->result = shadow_drop(swap->store, if_match, swap->dry_run, x->key_id, &swap->now,
                                   &swap->err);
    } else if (swap->stage) {
        swap->result = shadow_stage(swap->store, x->body.data, x->body.size, if_match,
                                    swap->dry_run, x->key_id, &swap->now, &swap->previous,
                                    &swap->err);
    } else if (swap->remove) {
        swap->result = headstore_remove(swap->store, swap->remove, if_match, swap->dry_run,
                                        x->key_id, &swap->now, &swap->previous, &swap->err);
    } else {
        swap->result = headstore_put(swap->store, x->body.data, x->body.size, if_match,
                                     swap->dry_run, x->key_id, &swap->now, &swap->previous,
                                     &swap->err);
    }
    swapper_release(swapper);
    exchange_resume(x);
}

static void submit(struct exchange *x)
{
    swapper_run(x->server->swapper, run_swap, x->state);
}

static void fail_swap(struct exchange *x, const struct swap *swap)
{
    static const struct {
        enum problem_kind kind;
        const char *otherwise;
    } problems[] = {
        [SWAP_INVALID] = {PROBLEM_HEADS_INVALID, "the heads file is not valid"},
        [SWAP_OTHER] = {PROBLEM_OTHER_ENCODER, "the heads are for another encoder"},
        [SWAP_BUSY] = {PROBLEM_SWAP_BUSY, "another swap is in progress"},
        [SWAP_MANAGED] = {PROBLEM_MANAGED, "a watched folder manages the heads"},
        [SWAP_PRECONDITION] = {PROBLEM_PRECONDITION, "other heads are active"},
        [SWAP_UNKNOWN] = {PROBLEM_VERSION_UNKNOWN, "no such version is kept"},
        [SWAP_NO_HEAD] = {PROBLEM_HEAD_ABSENT, "no such head is in service"},
        [SWAP_LAST_HEAD] = {PROBLEM_LAST_HEAD, "a set has at least one head"},
        [SWAP_NO_SHADOW] = {PROBLEM_SHADOW_ABSENT, "no heads are staged"},
        [SWAP_STALE] = {PROBLEM_SHADOW_STALE, "the active heads have changed since the staging"},
        [SWAP_FAILED] = {PROBLEM_INTERNAL, "the heads could not be kept"},
    };
    exchange_fail(x, problems[swap->result].kind, NULL, "%s",
                  swap->err.text[0] ? swap->err.text : problems[swap->result].otherwise);
}

static void finish(struct exchange *x)
{
    struct swap *swap = x->state;
    struct buf *out = &x->reply.body;
    if (swap->result != SWAP_OK) {
        fail_swap(x, swap);
        return;
    }
    if (swap->now.version) {
        buf_printf(out, "{\"version\":%" PRIu64, swap->now.version);
    } else {
        buf_append_str(out, "{\"version\":null");
    }
    buf_printf(out, ",\"sha256\":\"%s\",\"source_sha256\":\"%s\"", swap->now.heads->sha256,
               swap->now.source_sha256);
    if (swap->previous.heads) {
        buf_printf(out, ",\"previous\":%" PRIu64, swap->previous.version);
    } else {
        buf_append_str(out, ",\"previous\":null");
    }
    buf_printf(out, "%s}", swap->dry_run ? ",\"dry_run\":true" : "");
    exchange_header(x, "ETag", "\"%s\"", swap->now.heads->sha256);
    if (swap->now.version) {
        exchange_header(x, "X-Heads", "%s", swap->now.id);
    }
    exchange_reply(x, 200, "application/json");
}

const struct handler handler_heads_list = {.begin = begin, .run = list};
const struct handler handler_heads_file = {.begin = begin, .run = file};
const struct handler handler_heads_put = {
    .begin = begin, .run = put, .submit = submit, .finish = finish};
const struct handler handler_heads_rollback = {
    .begin = begin, .run = rollback, .submit = submit, .finish = finish};
const struct handler handler_heads_delete = {
    .begin = begin, .run = delete_head, .submit = submit, .finish = finish};
const struct handler handler_shadow_report = {.begin = begin, .run = report};
const struct handler handler_shadow_drop = {
    .begin = begin, .run = drop, .submit = submit, .finish = finish};
const struct handler handler_shadow_promote = {
    .begin = begin, .run = promote, .submit = submit, .finish = finish};
