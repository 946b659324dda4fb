#include "cli/flags.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/manual.h"
#include "cli/suggest.h"

void flags_environment_name(const char *flag, char *out, size_t size)
{
    int used = snprintf(out, size, "ORTHRUS_%s", flag);
    for (int i = 0; i < used && (size_t)i < size; i++) {
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
    }
}

static bool parse_whole(const char *text, bool units, uint64_t *ret)
{
    if (!isdigit((unsigned char)*text)) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno) {
        return false;
    }
    unsigned shift = 0;
    if (units && *end) {
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
        end += shift != 0;
        if (shift && strcmp(end, "iB") == 0) {
            end += 2;
        }
    }
    if (*end || number > UINT64_MAX >> shift) {
        return false;
    }
    *ret = (uint64_t)number << shift;
    return true;
}

/* "a whole number from 1 to 64 is allowed", for error texts. */
static void describe(const struct flag *flag, char *out, size_t size)
{
    const char *kind = flag->type == FLAG_DOUBLE ? "a number"
                       : flag->type == FLAG_AUTO ? "auto or a whole number"
                                                 : "a whole number";
    const char *end = strcmp(flag->value, "BYTES") == 0 ? ", or one with KiB, MiB or GiB behind it,"
                                                        : "";
    if (flag->max > 0) {
        (void)snprintf(out, size, "%s from %.15g to %.15g%s is allowed", kind, flag->min, flag->max,
                       end);
    } else {
        (void)snprintf(out, size, "%s is allowed", kind);
    }
}

static bool in_range(const struct flag *flag, double number)
{
    return flag->max <= 0 || (number >= flag->min && number <= flag->max);
}

static bool set_number(const struct flag *flag, const char *text)
{
    if (flag->type == FLAG_DOUBLE) {
        char *end;
        double number = strtod(text, &end);
        if (end == text || *end || !isfinite(number) || !in_range(flag, number)) {
            return false;
        }
        *(double *)flag->target = number;
        return true;
    }
    bool size = flag->type == FLAG_SIZE || flag->type == FLAG_AUTO;
    uint64_t number = 0;
    bool automatic = flag->type == FLAG_AUTO && strcmp(text, "auto") == 0;
    if (!automatic && (!parse_whole(text, size, &number) || !in_range(flag, (double)number))) {
        return false;
    }
    if (flag->type == FLAG_UINT) {
        if (number > UINT32_MAX) {
            return false;
        }
        *(unsigned *)flag->target = (unsigned)number;
    } else if (size) {
        *(size_t *)flag->target = number;
    } else {
        *(uint64_t *)flag->target = number;
    }
    return true;
}

/* shown: how the user wrote the name, "--max-length" or "ORTHRUS_MAX_LENGTH". */
static enum err_code set_value(const struct flag *flag, const char *shown, const char *text,
                               struct err *err)
{
    switch (flag->type) {
    case FLAG_BOOL:
    case FLAG_SWITCH: {
        bool yes = strcmp(text, "1") == 0 || strcmp(text, "true") == 0;
        if (!yes && strcmp(text, "0") != 0 && strcmp(text, "false") != 0) {
            return err_set(err, ERR_USAGE, "%s: 1, 0, true or false is allowed", shown);
        }
        if (flag->type == FLAG_SWITCH) {
            *(signed char *)flag->target = yes ? 1 : -1;
        } else {
            *(bool *)flag->target = yes;
        }
        return ERR_OK;
    }
    case FLAG_STRING:
        if (!*text) {
            return err_set(err, ERR_USAGE, "%s: must not be empty", shown);
        }
        *(const char **)flag->target = text;
        return ERR_OK;
    case FLAG_TEXT:
        *(const char **)flag->target = text;
        return ERR_OK;
    case FLAG_STRINGS: {
        struct flag_strings *list = flag->target;
        if (list->n == FLAG_STRINGS_MAX) {
            return err_set(err, ERR_USAGE, "%s: at most %d times", shown, FLAG_STRINGS_MAX);
        }
        list->at[list->n++] = text;
        return ERR_OK;
    }
    default:
        break;
    }
    if (!set_number(flag, text)) {
        char allowed[128];
        describe(flag, allowed, sizeof allowed);
        return err_set(err, ERR_USAGE, "%s: %s", shown, allowed);
    }
    return ERR_OK;
}

static const struct flag *find(const struct command *command, const char *name, size_t size)
{
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        if (strlen(flag->name) == size && memcmp(flag->name, name, size) == 0) {
            return flag;
        }
    }
    return NULL;
}

static const struct flag *find_letter(const struct command *command, char letter)
{
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        if (letter && flag->letter == letter) {
            return flag;
        }
    }
    return NULL;
}

static enum err_code read_environment(const struct command *command, struct err *err)
{
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        char name[96];
        flags_environment_name(flag->name, name, sizeof name);
        const char *text = flag->environment ? getenv(name) : NULL;
        /* An empty variable is how manifests spell "not set". */
        if (text && *text && set_value(flag, name, text, err) != ERR_OK) {
            return ERR_USAGE;
        }
    }
    return ERR_OK;
}

static void print_wrapped(const char *text, size_t indent)
{
    enum { COLUMNS = 96 };
    size_t column = indent;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > indent && column + 1 + word > COLUMNS) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_flag(const struct flag *flag)
{
    char head[96];
    char letter[8] = "    ";
    if (flag->letter) {
        (void)snprintf(letter, sizeof letter, "-%c, ", flag->letter);
    }
    (void)snprintf(head, sizeof head, "  %s--%s%s%s", letter, flag->name, flag->value ? " " : "",
                   flag->value ? flag->value : "");
    printf("%s\n          ", head);
    print_wrapped(flag->help, 10);
    char name[96];
    flags_environment_name(flag->name, name, sizeof name);
    if (flag->initial) {
        printf("          default: %s%s%s\n", flag->initial, flag->environment ? "; " : "",
               flag->environment ? name : "");
    } else if (flag->environment) {
        printf("          %s\n", name);
    }
}

static void print_help(const struct command *command)
{
    printf("Usage: orthrus %s [flags]%s%s\n\n", command->name, *command->arguments ? " " : "",
           command->arguments);
    print_wrapped(command->summary, 0);
    printf("\nFlags:\n");
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        print_flag(flag);
    }
    printf("  -h, --help\n          this text\n");
    if (command->details) {
        printf("\n%s", command->details);
    }
}

/* One flag at argv[i]; moves *i past a value that stands apart. */
static enum err_code read_flag(const struct command *command, int argc, char **argv, int *i,
                               struct err *err)
{
    const char *word = argv[*i];
    const struct flag *flag;
    const char *value = NULL;
    char shown[96];
    if (word[1] == '-') {
        size_t size = strcspn(word + 2, "=");
        flag = find(command, word + 2, size);
        value = word[2 + size] ? word + 2 + size + 1 : NULL;
        (void)snprintf(shown, sizeof shown, "%.*s", (int)(size + 2), word);
    } else {
        flag = find_letter(command, word[1]);
        value = word[1] && word[2] ? word + 2 : NULL;
        (void)snprintf(shown, sizeof shown, "%.2s", word);
    }
    if (!flag) {
        struct suggestion near = {0};
        for (const struct flag *f = command->flags; word[1] == '-' && f->name; f++) {
            suggest(&near, word + 2, strcspn(word + 2, "="), f->name);
        }
        return err_set(err, ERR_USAGE, "%s: no such flag%s%s; see orthrus %s --help", shown,
                       near.best ? ", did you mean --" : "", near.best ? near.best : "",
                       command->name);
    }
    if (flag->type == FLAG_BOOL || flag->type == FLAG_SWITCH) {
        return set_value(flag, shown, value ? value : "1", err);
    }
    if (!value) {
        if (*i + 1 >= argc) {
            return err_set(err, ERR_USAGE, "%s: needs a value (%s)", shown, flag->value);
        }
        value = argv[++*i];
    }
    return set_value(flag, shown, value, err);
}

enum err_code flags_parse(const struct command *command, int argc, char **argv,
                          char ***ret_arguments, size_t *ret_n_arguments, bool *ret_help,
                          struct err *err)
{
    size_t n = 0;
    bool only_arguments = false;
    enum manual_style style;
    if (read_environment(command, err) != ERR_OK) {
        return ERR_USAGE;
    }
    for (int i = 1; i < argc; i++) {
        char *word = argv[i];
        if (only_arguments || word[0] != '-' || !word[1]) {
            argv[n++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_arguments = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(command);
            *ret_help = true;
            return ERR_OK;
        } else if (strncmp(word, "--help=", 7) == 0 && manual_style_parse(word + 7, &style)) {
            manual_print(command, style); /* how orthrus man and orthrus completion ask */
            *ret_help = true;
            return ERR_OK;
        } else if (read_flag(command, argc, argv, &i, err) != ERR_OK) {
            return ERR_USAGE;
        }
    }
    if (n < command->min_arguments || n > command->max_arguments) {
        bool many = n > command->max_arguments;
        return err_set(err, ERR_USAGE, "%.64s%susage: orthrus %s [flags]%s%s",
                       many ? argv[command->max_arguments] : "",
                       many ? ": an argument too many; " : "", command->name,
                       *command->arguments ? " " : "", command->arguments);
    }
    *ret_arguments = argv;
    *ret_n_arguments = n;
    *ret_help = false;
    return ERR_OK;
}
