/* orthrus serve: flags and environment become settings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/revision.h"
#include "model/encoder/cpu.h"
#include "server/server.h"

enum { LABEL_MAX = 128 };

/* What the flags write besides the settings. */
struct log_choice {
    const char *format;
    const char *level;
};

static enum err_code set_up_log(const struct log_choice *choice, struct err *err)
{
    enum log_format format = isatty(STDERR_FILENO) ? LOG_TEXT : LOG_JSON;
    enum log_level level = LOG_INFO;
    if (choice->format && log_format_parse(choice->format, &format, err) != ERR_OK) {
        return err_prefix(err, "--log-format");
    }
    if (choice->level && log_level_parse(choice->level, &level, err) != ERR_OK) {
        return err_prefix(err, "--log-level");
    }
    log_setup(level, format);
    return ERR_OK;
}

/* A label of the build from the environment, as an image sets it; NULL where it is not plain. */
static const char *label(const char *name)
{
    const char *text = getenv(name);
    size_t size = text ? strlen(text) : 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return NULL;
        }
    }
    return size > 0 && size <= LABEL_MAX ? text : NULL;
}

/* Words that nobody knows are told before anything listens; what this machine can do, later. */
static enum err_code check_words(const struct settings *settings, struct err *err)
{
    enum isa isa;
    enum precision precision;
    struct err found = ERR_INIT;
    if (strcmp(settings->isa, "auto") != 0 && isa_parse(settings->isa, &isa, &found) != ERR_OK) {
        return err_set(err, ERR_USAGE, "--isa: %s", found.text);
    }
    enum pooling pooling;
    if (settings->pooling && settings_pooling(settings->pooling, &pooling, err) != ERR_OK) {
        return ERR_USAGE;
    }
    if (precision_parse(settings->precision, ISA_GENERIC, &precision, &found) == ERR_USAGE) {
        return err_set(err, ERR_USAGE, "--precision: %s", found.text);
    }
    return ERR_OK;
}

static int serve(struct settings *settings, const struct log_choice *choice, struct err *err)
{
    char *default_model = settings->model_dir ? NULL : command_default_model();
    char *shipped = command_shipped_heads();
    if (!settings->model_dir) {
        settings->model_dir = default_model;
    }
    settings->shipped_heads = shipped;
    if (!settings->model_dir) {
        err_set(err, ERR_USAGE, "--model: no folder given and no home folder known");
    } else if (settings_check(settings, err) == ERR_OK && check_words(settings, err) == ERR_OK &&
               set_up_log(choice, err) == ERR_OK) {
        (void)!server_run(settings, err);
    }
    free(default_model);
    free(shipped);
    return err->code == ERR_OK ? EXIT_DONE : command_fail("serve", err);
}

int command_serve(int argc, char **argv)
{
    struct settings s = {
        .listen = "127.0.0.1:8080",
        .admin_listen = "127.0.0.1:8081",
        .precision = "auto",
        .isa = "auto",
        .max_queue_requests = 512,
        .max_client_batch = 2048,
        .max_body_bytes = (size_t)16 << 20,
        .admin_max_body_bytes = (size_t)64 << 20,
        .max_connections = 1000,
        .request_timeout_ms = 60000,
        .drain_timeout_s = 30,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .idle_timeout_ms = 75000,
        .version = ORTHRUS_VERSION,
        .revision = program_revision[0] ? program_revision : label("ORTHRUS_REVISION"),
        .docker_label = label("ORTHRUS_DOCKER_LABEL"),
    };
    struct log_choice log_choice = {0};
    const struct flag flags[] = {
        {"model", 0, FLAG_STRING, &s.model_dir, "DIR", "the fetched bert-base-uncased",
         "model folder in Hugging Face's layout", 0, 0, true},
        {"heads", 0, FLAG_STRING, &s.heads_path, "FILE",
         "DIR/heads.safetensors, else heads inside the model, else the shipped ones",
         "heads file; one that does not fit the model ends the start", 0, 0, true},
        {"heads-dir", 0, FLAG_STRING, &s.heads_dir, "DIR", "none",
         "watched folder: its valid *.safetensors with the greatest name is active", 0, 0, true},
        {"state-dir", 0, FLAG_STRING, &s.state_dir, "DIR", "none",
         "folder in which swapped heads outlive a restart; not together with --heads-dir", 0, 0,
         true},
        {"listen", 0, FLAG_STRING, &s.listen, "ADDRESS", "127.0.0.1:8080",
         "HOST:PORT, [v6]:PORT or unix:/path; port 0 picks one", 0, 0, true},
        {"admin-listen", 0, FLAG_STRING, &s.admin_listen, "ADDRESS", "127.0.0.1:8081",
         "listener of the admin routes, probes and metrics; off for none", 0, 0, true},
        {"admin-token-file", 0, FLAG_STRING, &s.admin_token_file, "FILE", "none",
         "lines of id:token (32 bytes and more); without it /admin answers 403", 0, 0, true},
        {"api-key-file", 0, FLAG_STRING, &s.api_key_file, "FILE", "none",
         "the same form; with it prediction routes need Authorization: Bearer", 0, 0, true},
        {"precision", 0, FLAG_STRING, &s.precision, "P", "auto",
         "fp32, bf16, int8, or auto: bf16 where the CPU multiplies it natively, else fp32", 0, 0,
         true},
        {"isa", 0, FLAG_STRING, &s.isa, "LEVEL", "auto",
         "highest instruction set to use: generic, avx2, avxvnni, avx512, avx512vnni, avx512bf16, "
         "amx",
         0, 0, true},
        {"threads", 0, FLAG_UINT, &s.threads, "N", "the CPUs allowed",
         "compute threads (affinity and cgroup quota set the default)", 1, 1024, true},
        {"max-length", 0, FLAG_SIZE, &s.max_length, "N", "the model's, else 128",
         "tokens per text, at most the model's positions", 2, 65536, true},
        {"pooling", 0, FLAG_STRING, &s.pooling, "P", "the model's, else mean", "mean or cls", 0, 0,
         true},
        {"max-batch-tokens", 0, FLAG_SIZE, &s.max_batch_tokens, "N", "measured",
         "token budget of one packed batch", 1, 1 << 20, true},
        {"max-wait-us", 0, FLAG_U64, &s.max_wait_us, "N", "0",
         "longest wait to fill a batch while a thread is idle", 0, 1000000, true},
        {"max-queue-tokens", 0, FLAG_AUTO, &s.max_queue_tokens, "N",
         "auto: what is surely answered in 5 s", "admission bound in tokens; over it 429", 1, 1e9,
         true},
        {"max-queue-requests", 0, FLAG_SIZE, &s.max_queue_requests, "N", "512",
         "admission bound in requests; over it 429", 1, 1e6, true},
        {"max-client-batch", 0, FLAG_SIZE, &s.max_client_batch, "N", "2048", "texts in one request",
         1, 1e6, true},
        {"max-body-bytes", 0, FLAG_SIZE, &s.max_body_bytes, "BYTES", "16MiB",
         "largest request body", 1, 1 << 30, true},
        {"max-client-bytes", 0, FLAG_SIZE, &s.max_client_bytes, "BYTES",
         "half of the memory that is left",
         "held for all clients together; over it requests are refused", 1, 1e15, true},
        {"admin-max-body-bytes", 0, FLAG_SIZE, &s.admin_max_body_bytes, "BYTES", "64MiB",
         "largest heads file", 1, 1 << 30, true},
        {"max-connections", 0, FLAG_UINT, &s.max_connections, "N", "1000",
         "open connections of the main listener; the admin listener has its own", 1, 60000, true},
        {"served-model-name", 0, FLAG_STRING, &s.served_model_name, "NAME", "the folder's name",
         "the model's name in responses", 0, 0, true},
        {"request-timeout-ms", 0, FLAG_U64, &s.request_timeout_ms, "MS", "60000",
         "deadline of a request; X-Request-Timeout-Ms may lower it", 1, 86400000, true},
        {"drain-delay-ms", 0, FLAG_U64, &s.drain_delay_ms, "MS", "0",
         "after SIGTERM: go on accepting for so long with /readyz at 503", 0, 3600000, true},
        {"drain-timeout-s", 0, FLAG_UINT, &s.drain_timeout_s, "S", "30",
         "after SIGTERM: longest time to finish open requests", 0, 3600, true},
        {"header-timeout-ms", 0, FLAG_U64, &s.header_timeout_ms, "MS", "10000",
         "longest time for a request's headers; then its connection is closed", 1, 3600000, true},
        {"body-timeout-ms", 0, FLAG_U64, &s.body_timeout_ms, "MS", "30000",
         "longest time for a request's body, and a second more for each 64 KiB of it; then it is "
         "answered 408",
         1, 3600000, true},
        {"idle-timeout-ms", 0, FLAG_U64, &s.idle_timeout_ms, "MS", "75000",
         "longest time that a connection stays open between two requests", 1, 86400000, true},
        {"log-format", 0, FLAG_STRING, &log_choice.format, "F", "text on a terminal, else json",
         "text or json", 0, 0, true},
        {"log-level", 0, FLAG_STRING, &log_choice.level, "L", "info", "debug, info, warn or error",
         0, 0, true},
        {"cache-mib", 0, FLAG_SIZE, &s.cache_mib, "N", "0: off",
         "memory for vectors of texts that were computed; equal texts are computed once", 0, 65535,
         true},
        {"max-connection-requests", 0, FLAG_UINT, &s.max_connection_requests, "N", "0: no limit",
         "requests of one connection of the main listener; then it is closed, so that clients "
         "spread",
         0, 1e9, true},
        {"trusted-proxies", 0, FLAG_STRING, &s.trusted_proxies, "CIDR,...", "none",
         "peers whose X-Forwarded-For goes into the log: addresses, networks, unix", 0, 0, true},
        {"cors-origin", 0, FLAG_STRING, &s.cors_origin, "ORIGIN", "none",
         "origin that browsers may call from, or *", 0, 0, true},
        {0},
    };
    const struct command command = {
        .name = "serve",
        .arguments = "",
        .summary = "Serves embeddings and predictions over HTTP until SIGTERM or SIGINT.",
        .details = "SIGHUP reads --heads, --admin-token-file and --api-key-file again.\n",
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    return serve(&s, &log_choice, &err);
}
