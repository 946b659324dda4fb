/* The options of a run: defaults, bounds, and what of them a checkpoint remembers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/facts.h"
#include "base/jval.h"
#include "train/run/options.h"

void train_options_default(struct train_options *ret_options)
{
    *ret_options = (struct train_options){
        .epochs = 5,
        .batch_size = 2,
        .parts = 1,
        .text_column = "text",
        .lr = 2e-5,
        .head_lr = -1,
        .layer_decay = 1,
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
        {options->data != NULL, "--data", "a file of labelled texts"},
        {options->output != NULL, "--output", "a folder"},
        {options->epochs >= 1 && options->epochs <= STATE_EPOCHS_MAX, "--epochs", "1 to 100000"},
        {options->batch_size >= 1 && options->batch_size <= BATCH_SIZE_MAX, "--batch-size",
         "1 to 65536"},
        {isfinite(options->lr) && options->lr >= 0, "--lr", "0 or more"},
        {isfinite(options->head_lr), "--head-lr", "0 or more"},
        {options->lr > 0 || options->head_lr > 0, "--lr", "above 0, else nothing would train"},
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
        {options->eval_split > 0 || !options->split_by, "--split-by", "given with --eval-split"},
        {options->eval_split > 0 || !options->stratify, "--stratify", "given with --eval-split"},
        {!(options->split_by && options->stratify), "--split-by", "given without --stratify"},
        {options->keep != KEEP_BEST || options->eval_data || options->eval_split > 0, "--keep best",
         "given with --eval-data or --eval-split"},
        {options->parts >= 1 && options->parts <= PARTS_MAX, "--grad-accumulation", "1 to 4096"},
        {options->warmup_ratio >= 0 && options->warmup_ratio <= 1, "--warmup-ratio", "0 to 1"},
        {!(options->warmup_ratio > 0 && options->warmup_steps > 0), "--warmup-ratio",
         "given without --warmup-steps"},
        {!(options->resume && options->overwrite), "--resume", "given without --overwrite"},
        {!(options->resume && options->no_checkpoint), "--resume", "given without --no-checkpoint"},
        {options->threads >= 1 && options->threads <= TRAIN_THREADS_MAX, "--threads", "1 to 256"},
    };
    for (size_t i = 0; i < options->n_freeze; i++) {
        if (strcmp(options->freeze[i], "all") == 0) {
            return err_set(err, ERR_USAGE, "--freeze all: nothing would train");
        }
    }
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (!rules[i].good) {
            return err_set(err, ERR_USAGE, "%s: must be %s", rules[i].flag, rules[i].allowed);
        }
    }
    return ERR_OK;
}

static void fact_words(struct buf *out, const char *key, const char *const *words, size_t n)
{
    struct buf joined;
    buf_init(&joined, out->ceiling);
    buf_append_str(&joined, n == 0 ? "(nothing)" : "");
    for (size_t i = 0; i < n; i++) {
        buf_printf(&joined, "%s%s", i == 0 ? "" : " ", words[i]);
    }
    facts_add(out, key, buf_failed(&joined) ? "" : joined.data);
    out->failed = out->failed || buf_failed(&joined);
    buf_done(&joined);
}

enum err_code run_facts(struct run *run, struct err *err)
{
    const struct train_options *o = run->options;
    struct buf *out = &run->facts;
    facts_begin(out);
    facts_add(out, "the encoder", run->encoder_sha256);
    facts_add(out, "--data", run->data.sha256);
    facts_add(out, "--eval-data", o->eval_data ? run->eval_data.sha256 : "(nothing)");
    facts_add(out, "--init-heads", run->init ? run->init->sha256 : "(nothing)");
    facts_add_number(out, "--eval-split", o->eval_split);
    facts_add_number(out, "--batch-size", (double)o->batch_size);
    facts_add_number(out, "--lr", o->lr);
    facts_add_number(out, "--head-lr", o->head_lr < 0 ? o->lr : o->head_lr);
    facts_add(out, "--optimizer", optimizer_name(o->optimizer.kind));
    facts_add_number(out, "--weight-decay", o->optimizer.weight_decay);
    facts_add_number(out, "--clip-norm", o->optimizer.clip_norm);
    facts_add(out, "--schedule", schedule_name(o->schedule));
    facts_add_number(out, "--warmup-steps", (double)o->warmup_steps);
    if (o->schedule == SCHEDULE_LINEAR || o->warmup_ratio > 0) {
        facts_add_number(out, "--epochs", (double)o->epochs);
    }
    fact_words(out, "--freeze", o->freeze, o->n_freeze);
    fact_words(out, "--head", o->tasks.heads, o->tasks.n_heads);
    fact_words(out, "--labels", o->tasks.labels, o->tasks.n_labels);
    fact_words(out, "--class-weights", o->tasks.class_weights, o->tasks.n_class_weights);
    facts_add(out, "--text-column", o->text_column);
    fact_words(out, "--label-column", o->label_columns, o->n_label_columns);
    facts_add(out, "--split-by", o->split_by ? o->split_by : "(nothing)");
    facts_add(out, "--stratify", o->stratify ? o->stratify : "(nothing)");
    facts_add_number(out, "--grad-accumulation", (double)o->parts);
    facts_add_number(out, "--warmup-ratio", o->warmup_ratio);
    facts_add(out, "--metric", o->metric ? o->metric : "loss");
    facts_add_number(out, "--layer-decay", o->layer_decay);
    facts_add(out, "--loss-weights", o->tasks.loss_weights ? o->tasks.loss_weights : "(nothing)");
    facts_add_number(out, "--dropout",
                     o->dropout < 0 ? (double)run->config.hidden_dropout : o->dropout);
    facts_add(out, "--no-shuffle", o->shuffle ? "off" : "on");
    facts_add_number(out, "--seed", (double)o->seed);
    facts_add_number(out, "--max-length", (double)run->max_length);
    return facts_end(out) ? ERR_OK : err_nomem(err, out->size);
}
