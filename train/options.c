/* The options of a run: defaults, bounds, and what of them a checkpoint remembers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jval.h"
#include "train/options.h"

void train_options_default(struct train_options *ret_options)
{
    *ret_options = (struct train_options){
        .epochs = 5,
        .batch_size = 2,
        .lr = 2e-5,
        .head_lr = -1,
        .layer_decay = 1,
        .loss_weights = "classifier=1,sentiment=1",
        .dropout = -1,
        .shuffle = true,
        .seed = 42,
        .threads = 1,
    };
}

enum err_code options_check(const struct train_options *options, struct err *err)
{
    const struct {
        bool good;
        const char *flag;
        const char *allowed;
    } rules[] = {
        {options->model_dir != NULL, "--model", "a folder"},
        {options->data != NULL, "--data", "a JSONL file"},
        {options->output != NULL, "--output", "a folder"},
        {options->epochs >= 1 && options->epochs <= STATE_EPOCHS_MAX, "--epochs", "1 to 100000"},
        {options->batch_size >= 1 && options->batch_size <= BATCH_SIZE_MAX, "--batch-size",
         "1 to 65536"},
        {isfinite(options->lr) && options->lr >= 0, "--lr", "0 or more"},
        {isfinite(options->head_lr), "--head-lr", "0 or more"},
        {isfinite(options->optimizer.weight_decay) && options->optimizer.weight_decay >= 0,
         "--weight-decay", "0 or more"},
        {isfinite(options->optimizer.clip_norm) && options->optimizer.clip_norm >= 0, "--clip-norm",
         "0 (none) or more"},
        {options->layer_decay > 0 && options->layer_decay <= 1, "--layer-decay",
         "above 0, at most 1"},
        {options->dropout < 1, "--dropout", "0 or more and below 1"},
        {options->eval_split >= 0 && options->eval_split < 1, "--eval-split",
         "0 or more and below 1"},
        {!(options->eval_data && options->eval_split > 0), "--eval-split",
         "given without --eval-data"},
        {options->patience == 0 || options->eval_data || options->eval_split > 0, "--patience",
         "given with --eval-data or --eval-split"},
        {options->threads >= 1 && options->threads <= TRAIN_THREADS_MAX, "--threads", "1 to 256"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (!rules[i].good) {
            return err_set(err, ERR_USAGE, "%s: must be %s", rules[i].flag, rules[i].allowed);
        }
    }
    return ERR_OK;
}

static void fact_text(struct buf *out, const char *key, const char *value)
{
    buf_append_str(out, out->size <= 1 ? "" : ", ");
    jval_append_string(out, key, strlen(key));
    buf_append_str(out, ": ");
    jval_append_string(out, value, strlen(value));
}

static void fact_number(struct buf *out, const char *key, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    fact_text(out, key, text);
}

static void fact_words(struct buf *out, const char *key, const char *const *words, size_t n)
{
    struct buf joined;
    buf_init(&joined, out->ceiling);
    buf_append_str(&joined, n == 0 ? "(nothing)" : "");
    for (size_t i = 0; i < n; i++) {
        buf_printf(&joined, "%s%s", i == 0 ? "" : " ", words[i]);
    }
    fact_text(out, key, buf_failed(&joined) ? "" : joined.data);
    out->failed = out->failed || buf_failed(&joined);
    buf_done(&joined);
}

enum err_code run_facts(struct run *run, struct err *err)
{
    const struct train_options *o = run->options;
    struct buf *out = &run->facts;
    buf_clear(out);
    buf_append_char(out, '{');
    fact_text(out, "the encoder", run->encoder_sha256);
    fact_text(out, "--data", run->data.sha256);
    fact_text(out, "--eval-data", o->eval_data ? run->eval_data.sha256 : "(nothing)");
    fact_text(out, "--init-heads", run->init ? run->init->sha256 : "(nothing)");
    fact_number(out, "--eval-split", o->eval_split);
    fact_number(out, "--batch-size", (double)o->batch_size);
    fact_number(out, "--lr", o->lr);
    fact_number(out, "--head-lr", o->head_lr < 0 ? o->lr : o->head_lr);
    fact_text(out, "--optimizer", optimizer_name(o->optimizer.kind));
    fact_number(out, "--weight-decay", o->optimizer.weight_decay);
    fact_number(out, "--clip-norm", o->optimizer.clip_norm);
    fact_text(out, "--schedule", schedule_name(o->schedule));
    fact_number(out, "--warmup-steps", (double)o->warmup_steps);
    if (o->schedule == SCHEDULE_LINEAR) {
        fact_number(out, "--epochs", (double)o->epochs);
    }
    fact_words(out, "--freeze", o->freeze, o->n_freeze);
    fact_words(out, "--labels", o->labels, o->n_labels);
    fact_number(out, "--layer-decay", o->layer_decay);
    fact_text(out, "--loss-weights", o->loss_weights);
    fact_number(out, "--dropout", o->dropout < 0 ? (double)run->config.hidden_dropout : o->dropout);
    fact_text(out, "--no-shuffle", o->shuffle ? "off" : "on");
    fact_number(out, "--seed", (double)o->seed);
    fact_number(out, "--max-length", (double)run->max_length);
    buf_append_char(out, '}');
    return buf_failed(out) ? err_nomem(err, out->size) : ERR_OK;
}
