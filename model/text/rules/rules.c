#include "model/text/rules/rules.h"

void rules_done(struct rules *rules)
{
    pipeline_done(&rules->pipeline);
}

static const char *const known[] = {
    "version",       "truncation", "padding",        "added_tokens", "normalizer",
    "pre_tokenizer", "model",      "post_processor", "decoder",      NULL};

static enum err_code check_version(const struct members *file)
{
    static const char *const versions[] = {"1.0", NULL};
    const char *version = versions[0];
    size_t size = 3;
    enum err_code code = members_string(file, "version", false, 16, &version, &size);
    if (code == ERR_OK && (size != 3 || version[0] != '1' || version[2] != '0')) {
        code = members_wrong(file, "version", ERR_UNSUPPORTED, "1.0");
    }
    return code;
}

static enum err_code read_parts(const struct members *file, struct rules *rules)
{
    struct pipeline *pipeline = &rules->pipeline;
    members_known(file, known);
    enum err_code code = check_version(file);
    code = code == ERR_OK ? rules_read_model(file, &pipeline->subword) : code;
    code = code == ERR_OK ? rules_read_normalizer(file, &pipeline->normalizer) : code;
    code = code == ERR_OK ? rules_read_pretokenizer(file, &pipeline->pretokenizer) : code;
    code = code == ERR_OK ? rules_read_added(file, pipeline) : code;
    code = code == ERR_OK ? rules_read_template(file, rules) : code;
    return code == ERR_OK ? rules_read_decoder(file, &rules->decoder) : code;
}

enum err_code rules_read(const char *path, struct rules *rules, struct warnings *warnings,
                         struct err *err)
{
    struct jval *root;
    enum err_code code = jval_read_file(path, RULES_FILE_MAX, &root, err);
    if (code != ERR_OK) {
        return code;
    }
    struct members file = {.file = path, .object = root, .warnings = warnings, .err = err};
    code = jval_is_object(root) ? read_parts(&file, rules)
                                : err_set(err, ERR_INVALID, "%s: not an object", path);
    jval_free(root);
    return code;
}
