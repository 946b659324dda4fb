#include "server/settings.h"

enum err_code settings_check(const struct settings *settings, struct err *err)
{
    if (settings->heads_dir && settings->state_dir) {
        return err_set(err, ERR_USAGE, "--heads-dir and --state-dir exclude each other");
    }
    return ERR_OK;
}

enum err_code settings_pooling(const char *word, enum pooling *ret_pooling, struct err *err)
{
    enum pooling pooling;
    if (pooling_parse(word, &pooling, NULL) != ERR_OK ||
        (pooling != POOLING_MEAN && pooling != POOLING_CLS)) {
        return err_set(err, ERR_USAGE, "--pooling: mean or cls is allowed");
    }
    *ret_pooling = pooling;
    return ERR_OK;
}
