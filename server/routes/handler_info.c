#include "server/routes/handler_info.h"

#include <inttypes.h>
#include <string.h>

#include "base/jval.h"
#include "server/queue/engine.h"
#include "server/routes/handler_models.h"

static void begin(struct exchange *x)
{
    if (!server_engine(x->server)) {
        exchange_fail(x, PROBLEM_NOT_READY, NULL, "the model is being loaded");
    }
}

static void append_text(struct buf *out, const char *text)
{
    jval_append_string(out, text, strlen(text));
}

static void append_optional(struct buf *out, const char *text)
{
    if (text) {
        append_text(out, text);
    } else {
        buf_append_str(out, "null");
    }
}

static const char *tei_dtype(enum precision precision)
{
    return precision == PRECISION_BF16   ? "bfloat16"
           : precision == PRECISION_INT8 ? "int8"
                                         : "float32";
}

/* TEI's word for what the folder is: {"embedding": …}, {"classifier": …} or {"reranker": …}. */
static void append_model_type(struct buf *out, const struct engine *engine)
{
    const struct config *config = &engine->model->config;
    if (config->folder != FOLDER_SEQUENCE) {
        char pooling[POOLING_TEXT_SIZE];
        buf_printf(out, "{\"embedding\":{\"pooling\":\"%s\"}}",
                   pooling_name(engine->pooling, pooling));
        return;
    }
    buf_printf(out, "{\"%s\":{\"id2label\":{", config->n_labels == 1 ? "reranker" : "classifier");
    for (size_t i = 0; i < config->n_labels; i++) {
        buf_printf(out, "%s\"%zu\":", i ? "," : "", i);
        append_text(out, config->lists->labels[i]);
    }
    buf_append_str(out, "},\"label2id\":{");
    for (size_t i = 0; i < config->n_labels; i++) {
        buf_append_str(out, i ? "," : "");
        append_text(out, config->lists->labels[i]);
        buf_printf(out, ":%zu", i);
    }
    buf_append_str(out, "}}}");
}

/* The fields of text-embeddings-inference, by its names. */
static void append_tei(struct exchange *x, const struct engine *engine)
{
    struct buf *out = &x->reply.body;
    const struct settings *settings = x->server->settings;
    buf_append_str(out, "{\"model_id\":");
    append_text(out, served_model_name(x));
    buf_printf(out, ",\"model_sha\":\"%s\",\"model_dtype\":\"%s\",\"served_model_name\":",
               engine->model->encoder_sha256, tei_dtype(encoder_precision(engine->model->encoder)));
    append_text(out, served_model_name(x));
    buf_append_str(out, ",\"model_type\":");
    append_model_type(out, engine);
    buf_printf(out,
               ",\"max_concurrent_requests\":%zu,\"max_input_length\":%zu,"
               "\"max_batch_tokens\":%zu,\"max_batch_requests\":null,"
               "\"max_client_batch_size\":%zu,\"auto_truncate\":true,"
               "\"tokenization_workers\":%u,\"version\":\"%s\",\"sha\":",
               settings->max_queue_requests, engine->max_length, engine->max_batch_tokens,
               settings->max_client_batch, engine->threads, settings->version);
    append_optional(out, settings->revision);
    buf_append_str(out, ",\"docker_label\":");
    append_optional(out, settings->docker_label);
}

static void append_head(struct buf *out, const struct head *head)
{
    if (!head) {
        buf_append_str(out, "null");
        return;
    }
    buf_printf(out, "{\"classes\":%zu,\"labels\":[", head->classes);
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

static void append_heads(struct buf *out, struct engine *engine)
{
    struct heads_version now;
    headstore_acquire(engine->headstore, &now);
    if (!now.heads) {
        buf_append_str(out, ",\"heads\":null");
    } else {
        buf_printf(out, ",\"heads\":{\"id\":\"%s\",\"version\":%" PRIu64 ",\"sha256\":\"%s\"",
                   now.id, now.version, now.heads->sha256);
        buf_append_str(out, ",\"classifier\":");
        append_head(out, heads_find(now.heads, "classifier"));
        buf_append_str(out, ",\"sentiment\":");
        append_head(out, heads_find(now.heads, "sentiment"));
        append_others(out, now.heads);
        buf_append_char(out, '}');
    }
    heads_version_release(&now);
}

static void append_ours(struct exchange *x, struct engine *engine)
{
    struct buf *out = &x->reply.body;
    const struct settings *settings = x->server->settings;
    const struct config *config = encoder_config(engine->model->encoder);
    buf_printf(out,
               ",\"encoder\":{\"id\":\"%s\",\"sha256\":\"%s\",\"hidden\":%zu,\"layers\":%zu,"
               "\"attention_heads\":%zu,\"intermediate\":%zu,\"vocab\":%zu,\"positions\":%zu}",
               engine->encoder_id, engine->model->encoder_sha256, config->hidden, config->layers,
               config->heads, config->intermediate, config->vocab, config->positions);
    buf_printf(out, ",\"embedding_space\":{\"id\":\"%s\",\"parts\":{", engine->space.id);
    for (enum space_part part = 0; part < SPACE_PARTS; part++) {
        buf_printf(out, "%s\"%s\":\"%s\"", part ? "," : "", space_part_name(part),
                   engine->space.parts[part]);
    }
    buf_append_str(out, "}}");
    append_heads(out, engine);
    buf_printf(out, ",\"precision\":\"%s\",\"isa\":\"%s\",\"isa_warning\":",
               precision_name(encoder_precision(engine->model->encoder)),
               isa_name(encoder_isa(engine->model->encoder)));
    append_optional(out, engine->isa_warning.code == ERR_OK ? NULL : engine->isa_warning.text);
    buf_printf(out, ",\"threads\":%u,\"tokens_per_s\":%.0f", engine->threads,
               engine->measured.tokens_per_s);
    buf_printf(out,
               ",\"limits\":{\"max_length\":%zu,\"max_client_batch\":%zu,\"max_body_bytes\":%zu,"
               "\"admin_max_body_bytes\":%zu,\"max_batch_tokens\":%zu,\"max_queue_tokens\":%zu,"
               "\"max_queue_requests\":%zu,\"max_connections\":%zu,\"max_client_bytes\":%zu,"
               "\"request_timeout_ms\":%" PRIu64 ",\"header_timeout_ms\":%" PRIu64
               ",\"body_timeout_ms\":%" PRIu64 ",\"idle_timeout_ms\":%" PRIu64 "}",
               engine->max_length, settings->max_client_batch, settings->max_body_bytes,
               settings->admin_max_body_bytes, engine->max_batch_tokens, engine->max_queue_tokens,
               settings->max_queue_requests, x->server->max_connections,
               atomic_load(&x->server->client_bytes.limit), settings->request_timeout_ms,
               settings->header_timeout_ms, settings->body_timeout_ms, settings->idle_timeout_ms);
    buf_printf(out, ",\"versions\":{\"orthrus\":\"%s\",\"libmicrohttpd\":\"%s\"}}",
               settings->version, x->server->library_version);
}

static bool run(struct exchange *x)
{
    struct engine *engine = server_engine(x->server);
    append_tei(x, engine);
    append_ours(x, engine);
    exchange_reply(x, 200, "application/json");
    return false;
}

const struct handler handler_info = {.begin = begin, .run = run};
