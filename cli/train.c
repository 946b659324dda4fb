/* orthrus train: flags become a training run. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/offline.h"
#include "cli/progress.h"
#include "train/train.h"

/* The command's flags where they aren't train_options' own types. */
struct train_flags {
    const char *optimizer;
    const char *schedule;
    const char *format, *keep, *cache;
    struct flag_strings freeze, heads, labels, class_weights, label_columns;
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

static void print_split(const struct display *display, const struct tasks *tasks, const char *name,
                        size_t epoch, const struct split_result *split)
{
    printf("epoch %zu/%zu %-5s  loss %.4f", epoch, display->epochs, name, split->loss);
    for (size_t t = 0; t < tasks->n; t++) {
        const struct tally_score *score = &split->head[t];
        if (score->labelled > 0 && tasks->at[t].type == HEAD_SCORE) {
            printf("  %s error %.4f", tasks->at[t].name, score->error);
        } else if (score->labelled > 0) {
            printf("  %s accuracy %.4f macro-F1 %.4f", tasks->at[t].name, score->accuracy,
                   score->macro_f1);
        }
    }
}

static void on_epoch(void *context, const struct tasks *tasks, const struct epoch_result *result)
{
    struct display *display = context;
    clear(display);
    print_split(display, tasks, "train", result->epoch, &result->train);
    printf("  (%.1f s)\n", result->seconds);
    if (result->eval.n > 0) {
        print_split(display, tasks, "eval", result->epoch, &result->eval);
        printf("\n");
    }
    fflush(stdout);
}

static void on_note(void *context, const char *text)
{
    clear(context);
    (void)fprintf(stderr, "orthrus train: %s\n", text);
}

/* The first SIGINT or SIGTERM asks for a checkpoint, the second ends at once. */
static volatile sig_atomic_t asked_to_stop;

static void on_signal(int number)
{
    asked_to_stop = 1;
    (void)signal(number, SIG_DFL);
}

static bool stopped(void *context)
{
    (void)context;
    return asked_to_stop;
}

/* The folder of --embedding-cache, beside the fetched models; NULL for "off". malloc'ed. */
static enum err_code choose_cache(const char *flag, char **ret_dir, struct err *err)
{
    if (flag) {
        *ret_dir = strcmp(flag, "off") == 0 ? NULL : strdup(flag);
        return *ret_dir || strcmp(flag, "off") == 0 ? ERR_OK : err_nomem(err, strlen(flag));
    }
    *ret_dir = command_cache("embeddings");
    return ERR_OK; /* without a home folder there is no cache */
}

static enum err_code parse_words(const struct train_flags *flags, struct train_options *options,
                                 struct err *err)
{
    enum err_code code = optimizer_parse(flags->optimizer, &options->optimizer.kind, err);
    if (code == ERR_OK) {
        code = schedule_parse(flags->schedule, &options->schedule, err);
    }
    if (code == ERR_OK && flags->format) {
        code = rows_format_parse(flags->format, &options->format, err);
    }
    if (code == ERR_OK && flags->keep) {
        bool best = strcmp(flags->keep, "best") == 0;
        options->keep = best ? KEEP_BEST : KEEP_LAST;
        if (!best && strcmp(flags->keep, "last") != 0) {
            code = err_set(err, ERR_USAGE, "--keep: best or last is allowed");
        }
    }
    return code;
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
        .stopped = stopped,
    };
    char *model = NULL;
    char *cache = NULL;
    enum err_code code = parse_words(flags, options, err);
    if (code == ERR_OK) {
        code = offline_model_dir(options->model_dir, &model, err);
    }
    if (code == ERR_OK) {
        code = choose_cache(flags->cache, &cache, err);
    }
    if (code != ERR_OK) {
        free(model);
        return code;
    }
    options->model_dir = model;
    options->embedding_cache = cache;
    options->version = ORTHRUS_VERSION;
    options->freeze = flags->freeze.at;
    options->n_freeze = flags->freeze.n;
    options->tasks.heads = flags->heads.at;
    options->tasks.n_heads = flags->heads.n;
    options->tasks.labels = flags->labels.at;
    options->tasks.n_labels = flags->labels.n;
    options->tasks.class_weights = flags->class_weights.at;
    options->tasks.n_class_weights = flags->class_weights.n;
    options->label_columns = flags->label_columns.at;
    options->n_label_columns = flags->label_columns.n;
    options->shuffle = !flags->no_shuffle;
    if (options->threads == 0) {
        options->threads = command_default_threads();
    }
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    code = train_run(options, &callbacks, err);
    clear(&display);
    free(cache);
    free(model);
    return code;
}

static const char details[] =
    "Data is JSONL, {\"text\": …, \"classifier\": label, …}, or CSV or TSV with a header line. A\n"
    "label is a name or an index; a missing one takes no part in that head's loss. Labels are\n"
    "inferred from the data, in order of their names, unless --labels, --init-heads or the known\n"
    "six and three say which they are. \"weight\" (a number) is a row's share in the loss.\n\n"
    "--head NAME is a softmax head (one label a text); NAME:sigmoid takes a list of labels (in "
    "CSV\n"
    "a|b), NAME:score a number; :dense=64,gelu puts a dense layer with tanh, relu or gelu before\n"
    "it. Without --head: classifier and sentiment, or the heads of --init-heads.\n\n"
    "--freeze WHAT is all, backbone, embeddings, layers:A-B (from 0, both ends frozen) or a "
    "head's\n"
    "name. With the backbone frozen each sentence is encoded once, without dropout, the vectors "
    "are\n"
    "kept in --embedding-cache (4 GiB at most), and the heads are trained on them.\n\n"
    "The output folder gets heads.safetensors, train.jsonl, report.json, report.html and the\n"
    "checkpoint that --resume goes on from; the whole model folder too where the encoder was\n"
    "trained. A temperature is fitted on the evaluation texts. SIGINT and SIGTERM save a "
    "checkpoint\n"
    "at the next step. A run that diverges ends with status 1, and the last good files stay.\n";

int command_train(int argc, char **argv)
{
    struct train_options o;
    struct train_flags f = {.optimizer = "adam", .schedule = "constant"};
    train_options_default(&o);
    o.threads = 0;
    const struct flag flags[] = {
        OFFLINE_FLAG_MODEL(o.model_dir),
        {"data", 0, FLAG_STRING, &o.data, "FILE", NULL, "labelled texts, needed", 0, 0, false},
        {"output", 0, FLAG_STRING, &o.output, "DIR", NULL, "where the result goes, needed", 0, 0,
         false},
        {"init-heads", 0, FLAG_STRING, &o.init_heads, "FILE", "random, by --seed",
         "heads to start from, and their labels", 0, 0, false},
        {"eval-data", 0, FLAG_STRING, &o.eval_data, "FILE", "none", "labelled texts to measure on",
         0, 0, false},
        {"eval-split", 0, FLAG_DOUBLE, &o.eval_split, "SHARE", "0",
         "share of the data held back to measure on", 0, 0.999999, false},
        {"split-by", 0, FLAG_STRING, &o.split_by, "COLUMN", "none",
         "rows with the same value there stay on one side of --eval-split", 0, 0, false},
        {"stratify", 0, FLAG_STRING, &o.stratify, "HEAD", "none",
         "--eval-split holds back the same share of each of that head's labels", 0, 0, false},
        OFFLINE_FLAGS_COLUMNS(f.format, o.text_column, f.label_columns),
        {"head", 0, FLAG_STRINGS, &f.heads, "NAME[:KIND][:dense=M]", "classifier and sentiment",
         "a head to train: softmax, sigmoid or score (repeatable, see below)", 0, 0, false},
        {"epochs", 0, FLAG_SIZE, &o.epochs, "N", "5", "passes over the data", 1, 100000, false},
        {"batch-size", 0, FLAG_SIZE, &o.batch_size, "N", "2", "sentences in a step", 1, 65536,
         false},
        {"grad-accumulation", 0, FLAG_SIZE, &o.parts, "N", "1",
         "batches whose gradients make one step", 1, 4096, false},
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
        {"warmup-ratio", 0, FLAG_DOUBLE, &o.warmup_ratio, "SHARE", "0",
         "the same as a share of all steps", 0, 1, false},
        {"clip-norm", 0, FLAG_DOUBLE, &o.optimizer.clip_norm, "NORM", "0",
         "largest norm of the whole gradient, 0 for any", 0, 1e30, false},
        {"freeze", 0, FLAG_STRINGS, &f.freeze, "WHAT", "nothing",
         "what doesn't train (repeatable, see below)", 0, 0, false},
        {"layer-decay", 0, FLAG_DOUBLE, &o.layer_decay, "D", "1.0",
         "layer i of L learns with lr·D^(L-i), the embeddings with lr·D^(L+1)", 1e-9, 1, false},
        {"loss-weights", 0, FLAG_STRING, &o.tasks.loss_weights, "LIST",
         "1 each, as in classifier=1,sentiment=1", "the heads' shares in the loss", 0, 0, false},
        {"class-weights", 0, FLAG_STRINGS, &f.class_weights, "HEAD=LIST", "1 each",
         "weights of a head's labels, like topic=2,1,1, or topic=balanced (repeatable)", 0, 0,
         false},
        {"labels", 0, FLAG_STRINGS, &f.labels, "HEAD=LIST", "inferred from the data",
         "a head's labels in their order, like classifier=Ham,Spam (repeatable)", 0, 0, false},
        {"dropout", 0, FLAG_DOUBLE, &o.dropout, "RATE", "the config's",
         "dropout rate while the encoder trains", 0, 0.999, false},
        {"no-shuffle", 0, FLAG_BOOL, &f.no_shuffle, NULL, "off", "keep the order of the file", 0, 0,
         false},
        {"seed", 0, FLAG_U64, &o.seed, "N", "42", "of shuffling, splitting, dropout, new heads", 0,
         0, false},
        {"patience", 0, FLAG_SIZE, &o.patience, "N", "0",
         "stop after N epochs without a better --metric, 0 for never", 0, 100000, false},
        {"keep", 0, FLAG_STRING, &f.keep, "WHICH", "best with --patience, else last",
         "the epoch that is written: best by --metric, or last", 0, 0, false},
        {"metric", 0, FLAG_STRING, &o.metric, "NAME", "loss",
         "loss, accuracy or macro_f1 on the evaluation texts, or of one head: topic.macro_f1", 0, 0,
         false},
        {"max-length", 0, FLAG_SIZE, &o.max_length, "N", "the model's, else 128", "tokens per text",
         2, 65536, false},
        {"threads", 0, FLAG_UINT, &o.threads, "N", "the CPUs allowed", "compute threads", 1,
         TRAIN_THREADS_MAX, true},
        {"resume", 0, FLAG_BOOL, &o.resume, NULL, "off", "go on from the checkpoint in --output", 0,
         0, false},
        {"overwrite", 0, FLAG_BOOL, &o.overwrite, NULL, "off",
         "replace another run's results in --output", 0, 0, false},
        {"no-checkpoint", 0, FLAG_BOOL, &o.no_checkpoint, NULL, "off",
         "write no checkpoint: less disk, no --resume", 0, 0, false},
        {"embedding-cache", 0, FLAG_STRING, &f.cache, "DIR|off", "embeddings in the cache folder",
         "where a frozen encoder's vectors are kept", 0, 0, false},
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
