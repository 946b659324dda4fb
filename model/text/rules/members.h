/* Members of other people's JSON: each is honoured, without influence, or refused by its name.
 *
 * A reader stands at one object of a file and knows the way to it ("normalizer.normalizers[2]"), so
 * that every message names file and field, what was found and what is allowed. Texts of the file
 * are shown only where they are short and printable. */
#ifndef ORTHRUS_MODEL_MEMBERS_H
#define ORTHRUS_MODEL_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/jval.h"

enum { MEMBERS_WARNINGS_MAX = 16, MEMBERS_WAY_MAX = 160, MEMBERS_SHOWN_MAX = 96 };

/* Warnings of one load. Owner: the loader. */
struct warnings {
    char *texts[MEMBERS_WARNINGS_MAX]; /* owned */
    size_t n;
};

void warnings_add(struct warnings *warnings, const char *fmt, ...) PRINTF_LIKE(2, 3);
void warnings_done(struct warnings *warnings);

/* Lifetime: the caller's stack. */
struct members {
    const char *file; /* path, for messages */
    char way[MEMBERS_WAY_MAX];
    const struct jval *object;
    struct warnings *warnings;
    struct err *err;
};

/* The reader of a member that is an object, or of an array's element. Errors: ERR_INVALID. */
CHECK_RESULT enum err_code members_enter(const struct members *members, const char *key,
                                         struct members *ret_inner);
CHECK_RESULT enum err_code members_enter_at(const struct members *members, const char *key,
                                            const struct jval *element, size_t index,
                                            struct members *ret_inner);

/* "way.key: found …, allowed …": returns code. */
enum err_code members_wrong(const struct members *members, const char *key, enum err_code code,
                            const char *allowed);

/* Absent or null. */
bool members_absent(const struct members *members, const char *key);

/* Each leaves *ret as it was where the field is absent or null and not required. Errors:
 * ERR_INVALID. */
CHECK_RESULT enum err_code members_bool(const struct members *members, const char *key,
                                        bool required, bool *ret);
CHECK_RESULT enum err_code members_integer(const struct members *members, const char *key,
                                           bool required, int64_t min, int64_t max, int64_t *ret);
CHECK_RESULT enum err_code members_string(const struct members *members, const char *key,
                                          bool required, size_t max_size, const char **ret,
                                          size_t *ret_size);
CHECK_RESULT enum err_code members_array(const struct members *members, const char *key,
                                         bool required, const struct jval **ret);

/* The place of the field "type" among names, which end with NULL. Errors: ERR_UNSUPPORTED. */
CHECK_RESULT enum err_code members_type(const struct members *members, const char *const *names,
                                        size_t *ret_place);

/* Warns of members that are not among known, which ends with NULL. */
void members_known(const struct members *members, const char *const *known);

#endif
