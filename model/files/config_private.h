/* Inside the reading of a folder's JSON files: what config.c and modules.c share. */
#ifndef ORTHRUS_MODEL_CONFIG_PRIVATE_H
#define ORTHRUS_MODEL_CONFIG_PRIVATE_H

#include "model/files/fields.h"

enum { LENGTH_MIN = 2 /* [CLS] and [SEP] */ };

/* Opens dir/name, an object, and hands it to read; an absent optional file has root NULL. */
CHECK_RESULT enum err_code config_read_file(const char *dir, const char *name, bool optional,
                                            enum err_code (*read)(const struct fields *fields,
                                                                  struct config *config),
                                            struct config *config, struct err *err);

/* Applies the rules of config.json; config->architecture gives the names of its own fields. */
CHECK_RESULT enum err_code config_apply_rules(const struct fields *fields, struct config *config);

/* modules.json, where there is one: which module stands where. Fills lists->transformer, pooling
 * and modules (kind and path), has_modules, folder_normalize. */
CHECK_RESULT enum err_code modules_open(const char *dir, struct config *config, struct err *err);
/* The modules' own files, sentence_bert_config.json (in `inside`, the Transformer's folder) and
 * config_sentence_transformers.json, once config.json has been read. */
CHECK_RESULT enum err_code modules_load(const char *dir, const char *inside, struct config *config,
                                        struct err *err);

#endif
