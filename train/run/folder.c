#include "train/run/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"

/* The trained model must not overwrite the one it comes from. */
static enum err_code check_folders(const struct train_options *options, struct err *err)
{
    if (file_same(options->model_dir, options->output)) {
        return err_set(err, ERR_USAGE, "must be another folder than --model");
    }
    return ERR_OK;
}

/* What an earlier run has left. */
static const char *const remains[] = {"heads.safetensors", "model.safetensors",
                                      "checkpoint.safetensors", "train.jsonl"};

/* What this run writes must not take the place of the texts it reads. */
static enum err_code check_data(const struct train_options *options, struct err *err)
{
    static const char *const written[] = {
        "heads.safetensors", "model.safetensors", "checkpoint.safetensors",
        "train.jsonl",       "report.json",       "report.html"};
    const char *const flags[] = {"--data", "--eval-data"};
    const char *const read[] = {options->data, options->eval_data};
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        char *path = file_join(options->output, written[i]);
        if (!path) {
            return err_nomem(err, strlen(options->output));
        }
        for (size_t k = 0; k < 2; k++) {
            if (read[k] && file_same(read[k], path)) {
                (void)err_set(err, ERR_USAGE,
                              "%s: %s would be replaced by this run's own %s; --output must be "
                              "another folder",
                              flags[k], read[k], written[i]);
                free(path);
                return ERR_USAGE;
            }
        }
        free(path);
    }
    return ERR_OK;
}

/* Removes what runs that were killed while they replaced a file left beside it (base/file.h). The
 * folder is ours alone; what can't be removed does no harm. */
static void sweep(const char *folder)
{
    static const char mark[] = ".tmp-";
    enum { RANDOM = 6 };
    DIR *dir = opendir(folder);
    const struct dirent *item;
    while (dir && (item = readdir(dir)) != NULL) {
        const char *end = strstr(item->d_name, mark);
        if (end && end != item->d_name && strlen(end) == sizeof mark - 1 + RANDOM) {
            (void)unlinkat(dirfd(dir), item->d_name, 0);
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
}

/* The folder: there, ours alone, writable, and not another run's. */
enum err_code folder_open(struct run *run, struct err *err)
{
    const struct train_options *options = run->options;
    enum err_code code = file_make_folders(options->output, err);
    if (code == ERR_OK) {
        code = check_folders(options, err);
    }
    if (code != ERR_OK) {
        return err_prefix(err, "--output");
    }
    code = check_data(options, err);
    if (code != ERR_OK) {
        return code;
    }
    run->lock = open(options->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock < 0) {
        return err_set_errno(err, ERR_IO, errno, "--output: %s", options->output);
    }
    if (flock(run->lock, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? err_set(err, ERR_CONFLICT, "--output: another run is training into %s",
                             options->output)
                   : err_set_errno(err, ERR_IO, errno, "--output: %s", options->output);
    }
    if (faccessat(run->lock, ".", W_OK | X_OK, 0) != 0) {
        return err_set_errno(err, ERR_IO, errno, "--output: %s", options->output);
    }
    bool empty_wanted = !options->resume && !options->overwrite;
    for (size_t i = 0; empty_wanted && i < sizeof remains / sizeof *remains; i++) {
        if (faccessat(run->lock, remains[i], F_OK, 0) == 0) {
            return err_set(err, ERR_CONFLICT,
                           "--output: %s holds %s of another run: --resume goes on with it, "
                           "--overwrite replaces it",
                           options->output, remains[i]);
        }
        if (errno != ENOENT) {
            return err_set_errno(err, ERR_IO, errno, "--output: %s", options->output);
        }
    }
    run->checkpoint_path = file_join(options->output, "checkpoint.safetensors");
    run->log_path = file_join(options->output, "train.jsonl");
    if (!run->checkpoint_path || !run->log_path) {
        return err_nomem(err, strlen(options->output));
    }
    if (options->resume && !file_exists(run->checkpoint_path)) {
        return err_set(err, ERR_NOT_FOUND, "--resume: %s is not there", run->checkpoint_path);
    }
    sweep(options->output);
    return ERR_OK;
}

/* What the output takes at most, against what the disk has. */
enum err_code folder_check_space(const struct run *run, struct err *err)
{
    struct statvfs disk;
    uint64_t floats = 0;
    size_t width = config_pooled_width(&run->config);
    for (size_t t = 0; t < run->tasks.n; t++) {
        const struct task *task = &run->tasks.at[t];
        floats += (uint64_t)(task->classes + 1) * (width + task->inner) +
                  (uint64_t)task->inner * width;
    }
    for (size_t i = 0; run->deep && i < checkpoint_param_count(&run->config); i++) {
        struct checkpoint_param param;
        checkpoint_param(&run->config, NULL, i, &param);
        floats += (uint64_t)param.shape[0] * (param.rank == 2 ? param.shape[1] : 1);
    }
    /* The result, and a checkpoint of values and two moments, each beside the one it replaces. */
    uint64_t copies = run->options->no_checkpoint ? 2 : 8;
    uint64_t bytes = floats * sizeof(float) * copies;
    if (fstatvfs(run->lock, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < bytes) {
        return err_set(err, ERR_IO, "--output: %s has %llu MiB free, up to %llu MiB are needed",
                       run->options->output,
                       (unsigned long long)((uint64_t)disk.f_bavail * disk.f_frsize >> 20),
                       (unsigned long long)(bytes >> 20));
    }
    return ERR_OK;
}
