/* orthrus train: flags become a training run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/progress.h"
#include "train/train.h"

/* The command's flags where they aren't train_options' own types. */
struct train_flags {
    const char *optimizer;
    const char *schedule;
    struct flag_strings freeze;
    struct flag_strings labels;
    bool no_shuffle;
};

/* What the callbacks draw. */
struct display {
    struct progress progress;
    bool drawn; /* a bar is on the screen */
    enum train_stage stage;
    size_t epoch, epochs;
    char what[64];
};

static void on_progress(void *context, enum train_stage stage, size_t epoch, uint64_t done,
                        uint64_t total)
{
    struct display *display = context;
    if (!display->drawn || display->stage != stage || display->epoch != epoch) {
        if (stage == TRAIN_EMBEDDING) {
            snprintf(display->what, sizeof display->what, "embedding");
        } else {
            snprintf(display->what, sizeof display->what, "epoch %zu/%zu %s", epoch,
                     display->epochs, stage == TRAIN_STEPS ? "training" : "evaluating");
        }
        display->drawn = true;
        display->stage = stage;
        display->epoch = epoch;
        progress_start(&display->progress, display->what, "sentences", total);
    }
    progress_update(&display->progress, done);
}

static void clear(struct display *display)
{
    if (display->drawn) {
        progress_clear(&display->progress);
        display->drawn = false;
    }
}

static void print_split(const struct display *display, const char *name, size_t epoch,
                        const struct split_result *split)
{
    printf("epoch %zu/%zu %-5s  loss %.4f", epoch, display->epochs, name, split->loss);
    for (enum head_kind kind = 0; kind < HEAD_COUNT; kind++) {
        const struct tally_score *score = &split->head[kind];
        if (score->labelled > 0) {
            printf("  %s accuracy %.4f macro-F1 %.4f", head_name(kind), score->accuracy,
                   score->macro_f1);
        }
    }
}

static void on_epoch(void *context, const struct epoch_result *result)
{
    struct display *display = context;
    clear(display);
    print_split(display, "train", result->epoch, &result->train);
    printf("  (%.1f s)\n", result->seconds);
    if (result->eval.n > 0) {
        print_split(display, "eval", result->epoch, &result->eval);
        printf("\n");
    }
    fflush(stdout);
}

static void on_note(void *context, const char *text)
{
    clear(context);
    (void)fprintf(stderr, "orthrus train: %s\n", text);
}

static enum err_code train(const struct train_flags *flags, struct train_options *options,
                           struct err *err)
{
    struct display display = {.epochs = options->epochs};
    struct train_callbacks callbacks = {
        .context = &display,
        .on_progress = on_progress,
        .on_epoch = on_epoch,
        .on_note = on_note,
    };
    char *model = NULL;
    enum err_code code = optimizer_parse(flags->optimizer, &options->optimizer.kind, err);
    if (code == ERR_OK) {
        code = schedule_parse(flags->schedule, &options->schedule, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (!options->model_dir) {
        model = command_default_model();
        options->model_dir = model;
    }
    options->freeze = flags->freeze.at;
    options->n_freeze = flags->freeze.n;
    options->labels = flags->labels.at;
    options->n_labels = flags->labels.n;
    options->shuffle = !flags->no_shuffle;
    if (options->threads == 0) {
        options->threads = command_default_threads();
    }
    code = train_run(options, &callbacks, err);
    clear(&display);
    free(model);
    return code;
}

static const char details[] =
    "Data is JSONL: {\"text\": …, \"classifier\": label or index, \"sentiment\": label or index};\n"
    "a missing label takes no part in that head's loss.\n\n"
    "--freeze WHAT is all, backbone, embeddings, layers:A-B (from 0, both ends frozen),\n"
    "classifier or sentiment. With the backbone frozen each sentence is encoded once, without\n"
    "dropout, and the heads are trained on its vector.\n\n"
    "The output folder gets heads.safetensors, train.jsonl, report.json, report.html and the\n"
    "checkpoint that --resume goes on from; the whole model folder too where the encoder was\n"
    "trained. With --patience the output is the epoch with the lowest evaluation loss.\n";

int command_train(int argc, char **argv)
{
    struct train_options o;
    struct train_flags f = {.optimizer = "adam", .schedule = "constant"};
    train_options_default(&o);
    o.threads = 0;
    const struct flag flags[] = {
        {"model", 0, FLAG_STRING, &o.model_dir, "DIR", "the fetched bert-base-uncased",
         "model folder", 0, 0, true},
        {"data", 0, FLAG_STRING, &o.data, "FILE", "none", "labelled sentences, JSONL", 0, 0, false},
        {"output", 0, FLAG_STRING, &o.output, "DIR", "none", "where the result goes", 0, 0, false},
        {"init-heads", 0, FLAG_STRING, &o.init_heads, "FILE", "random, by --seed",
         "heads to start from, and their labels", 0, 0, false},
        {"eval-data", 0, FLAG_STRING, &o.eval_data, "FILE", "none",
         "labelled sentences to measure on", 0, 0, false},
        {"eval-split", 0, FLAG_DOUBLE, &o.eval_split, "SHARE", "0",
         "share of the data held back to measure on", 0, 0.999999, false},
        {"epochs", 0, FLAG_SIZE, &o.epochs, "N", "5", "passes over the data", 1, 100000, false},
        {"batch-size", 0, FLAG_SIZE, &o.batch_size, "N", "2", "sentences in a step", 1, 65536,
         false},
        {"lr", 0, FLAG_DOUBLE, &o.lr, "RATE", "2e-5", "learning rate", 0, 1000, false},
        {"head-lr", 0, FLAG_DOUBLE, &o.head_lr, "RATE", "--lr", "learning rate of the heads", 0,
         1000, false},
        {"optimizer", 0, FLAG_STRING, &f.optimizer, "NAME", "adam", "adam or adamw", 0, 0, false},
        {"weight-decay", 0, FLAG_DOUBLE, &o.optimizer.weight_decay, "W", "0",
         "L2 with adam, decoupled with adamw", 0, 1000, false},
        {"schedule", 0, FLAG_STRING, &f.schedule, "NAME", "constant",
         "constant, or linear down to 0 at the last step", 0, 0, false},
        {"warmup-steps", 0, FLAG_U64, &o.warmup_steps, "N", "0",
         "steps over which the rate grows from 0", 0, 1e15, false},
        {"clip-norm", 0, FLAG_DOUBLE, &o.optimizer.clip_norm, "NORM", "0",
         "largest norm of the whole gradient, 0 for any", 0, 1e30, false},
        {"freeze", 0, FLAG_STRINGS, &f.freeze, "WHAT", "nothing",
         "what doesn't train (repeatable, see below)", 0, 0, false},
        {"layer-decay", 0, FLAG_DOUBLE, &o.layer_decay, "D", "1.0",
         "layer i of L learns with lr·D^(L-i), the embeddings with lr·D^(L+1)", 1e-9, 1, false},
        {"loss-weights", 0, FLAG_STRING, &o.loss_weights, "LIST", "classifier=1,sentiment=1",
         "the heads' shares in the loss", 0, 0, false},
        {"labels", 0, FLAG_STRINGS, &f.labels, "HEAD=LIST", "the known six and three",
         "a head's own labels, like classifier=Ham,Spam (repeatable)", 0, 0, false},
        {"dropout", 0, FLAG_DOUBLE, &o.dropout, "RATE", "the config's",
         "dropout rate while the encoder trains", 0, 0.999, false},
        {"no-shuffle", 0, FLAG_BOOL, &f.no_shuffle, NULL, "off", "keep the order of the file", 0, 0,
         false},
        {"seed", 0, FLAG_U64, &o.seed, "N", "42", "of shuffling, splitting, dropout, new heads", 0,
         0, false},
        {"patience", 0, FLAG_SIZE, &o.patience, "N", "0",
         "stop after N epochs without a lower evaluation loss, 0 for never", 0, 100000, false},
        {"max-length", 0, FLAG_SIZE, &o.max_length, "N", "128", "tokens per text", 2, 65536, false},
        {"threads", 0, FLAG_UINT, &o.threads, "N", "the CPUs allowed", "compute threads", 1,
         TRAIN_THREADS_MAX, true},
        {"resume", 0, FLAG_BOOL, &o.resume, NULL, "off",
         "go on from the last epoch's checkpoint in --output", 0, 0, false},
        {0},
    };
    const struct command command = {
        .name = "train",
        .arguments = "",
        .summary = "Trains the heads, and the encoder under them where it isn't frozen.",
        .details = details,
        .flags = flags,
    };
    struct err err = ERR_INIT;
    char **arguments;
    size_t n_arguments;
    int status;
    if (!command_begin(&command, argc, argv, &arguments, &n_arguments, &status)) {
        return status;
    }
    return train(&f, &o, &err) == ERR_OK ? EXIT_DONE : command_fail("train", &err);
}
