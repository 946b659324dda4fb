#include "cli/manual.h"

#include <stdio.h>
#include <string.h>

bool manual_style_parse(const char *word, enum manual_style *ret_style)
{
    static const char *const words[] = {"man", "bash", "zsh", "fish"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i]) == 0) {
            *ret_style = (enum manual_style)i;
            return true;
        }
    }
    return false;
}

/* ---- man(7) ---- */

/* Text in roff: a backslash is one, a hyphen stays a hyphen, no line begins a request. */
static void roff(const char *text)
{
    bool fresh = true;
    for (; *text; text++) {
        if (fresh && (*text == '.' || *text == '\'')) {
            (void)fputs("\\&", stdout);
        }
        if (*text == '\\') {
            (void)fputs("\\e", stdout);
        } else if (*text == '-') {
            (void)fputs("\\-", stdout);
        } else {
            putchar(*text);
        }
        fresh = *text == '\n';
    }
}

/* Paragraphs of --help: lines within one belong together. */
static void roff_details(const char *text)
{
    const char *break_;
    while ((break_ = strstr(text, "\n\n")) != NULL) {
        char part[4096];
        size_t size = (size_t)(break_ - text) < sizeof part - 1 ? (size_t)(break_ - text)
                                                                : sizeof part - 1;
        memcpy(part, text, size);
        part[size] = '\0';
        roff(part);
        printf("\n.PP\n");
        text = break_ + 2;
    }
    roff(text);
}

static void man_flag(const struct flag *flag)
{
    printf(".TP\n");
    if (flag->letter) {
        printf("\\fB\\-%c\\fR, ", flag->letter);
    }
    printf("\\fB\\-\\-");
    roff(flag->name);
    printf("\\fR");
    if (flag->value) {
        printf(" \\fI");
        roff(flag->value);
        printf("\\fR");
    }
    printf("\n");
    roff(flag->help);
    printf(".\n");
    if (flag->initial) {
        printf("Default: ");
        roff(flag->initial);
        printf(".\n");
    }
    if (flag->environment) {
        char name[96];
        flags_environment_name(flag->name, name, sizeof name);
        printf("Environment: \\fB%s\\fR.\n", name);
    }
}

static void man_page(const struct command *command)
{
    printf(".TH ORTHRUS\\-%s 1 \"\" \"orthrus %s\" \"User Commands\"\n", command->name,
           ORTHRUS_VERSION);
    printf(".SH NAME\northrus\\-%s \\- ", command->name);
    roff(command->summary);
    printf("\n.SH SYNOPSIS\n\\fBorthrus %s\\fR [flags]", command->name);
    if (*command->arguments) {
        printf(" \\fI");
        roff(command->arguments);
        printf("\\fR");
    }
    printf("\n.SH DESCRIPTION\n");
    roff(command->summary);
    printf("\n");
    if (command->details) {
        printf(".PP\n");
        roff_details(command->details);
    }
    printf(".SH OPTIONS\n");
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        man_flag(flag);
    }
    printf(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nThe flags and their defaults.\n"
           ".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage.\n.SH SEE ALSO\n\\fBorthrus\\fR(1)\n");
}

/* ---- completions ---- */

/* Inside single quotes of a shell; colons and brackets as zsh's _arguments wants them. */
static void quoted(const char *text, bool zsh)
{
    for (; *text; text++) {
        if (*text == '\'') {
            (void)fputs("'\\''", stdout);
        } else if (zsh && strchr("[]:\\", *text)) {
            printf("\\%c", *text);
        } else {
            putchar(*text);
        }
    }
}

static bool path_word(const char *word)
{
    return strstr(word, "FILE") || strstr(word, "DIR") || strstr(word, "PATH");
}

static bool names_a_path(const struct flag *flag)
{
    return flag->value && path_word(flag->value);
}

static void bash_part(const struct command *command)
{
    printf("    %s) words='", command->name);
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        printf("--%s ", flag->name);
    }
    printf("--help' ;;\n");
}

static void zsh_part(const struct command *command)
{
    printf("    %s) _arguments ", command->name);
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        printf("'--%s[", flag->name);
        quoted(flag->help, true);
        printf("]");
        if (flag->value) {
            printf(":");
            quoted(flag->value, true);
            printf(":%s", names_a_path(flag) ? "_files" : "");
        }
        printf("' ");
    }
    printf("'--help[the flags and their defaults]' '*:file:_files' ;;\n");
}

static void fish_part(const struct command *command)
{
    for (const struct flag *flag = command->flags; flag->name; flag++) {
        printf("complete -c orthrus -n '__fish_seen_subcommand_from %s' -l %s", command->name,
               flag->name);
        if (flag->letter) {
            printf(" -s %c", flag->letter);
        }
        printf("%s -d '", !flag->value ? "" : names_a_path(flag) ? " -r -F" : " -x");
        quoted(flag->help, false);
        printf("'\n");
    }
    printf("complete -c orthrus -n '__fish_seen_subcommand_from %s' -s h -l help "
           "-d 'the flags and their defaults'\n",
           command->name);
    if (path_word(command->arguments)) {
        printf("complete -c orthrus -n '__fish_seen_subcommand_from %s' -F\n", command->name);
    }
}

void manual_print(const struct command *command, enum manual_style style)
{
    static void (*const parts[])(const struct command *) = {man_page, bash_part, zsh_part,
                                                            fish_part};
    parts[style](command);
}

static void overview(const char *const *names, const char *const *summaries, size_t n)
{
    printf(".TH ORTHRUS 1 \"\" \"orthrus %s\" \"User Commands\"\n"
           ".SH NAME\northrus \\- sentence embeddings and predictions over HTTP\n"
           ".SH SYNOPSIS\n\\fBorthrus\\fR \\fICOMMAND\\fR [flags]\n.SH COMMANDS\n",
           ORTHRUS_VERSION);
    for (size_t i = 0; i < n; i++) {
        printf(".TP\n\\fBorthrus\\-%s\\fR(1)\n", names[i]);
        roff(summaries[i]);
        printf("\n");
    }
    printf(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage.\n");
}

void manual_begin(enum manual_style style, const char *const *names, const char *const *summaries,
                  size_t n)
{
    if (style == MANUAL_MAN) {
        overview(names, summaries, n);
    } else if (style == MANUAL_BASH) {
        printf("_orthrus() {\n  local word=${COMP_WORDS[COMP_CWORD]} words='");
        for (size_t i = 0; i < n; i++) {
            printf("%s ", names[i]);
        }
        printf("'\n  case ${COMP_WORDS[1]} in\n");
    } else if (style == MANUAL_ZSH) {
        printf("#compdef orthrus\n_orthrus() {\n  if ((CURRENT == 2)); then\n    local -a "
               "commands=(");
        for (size_t i = 0; i < n; i++) {
            printf("'%s:", names[i]);
            quoted(summaries[i], true);
            printf("' ");
        }
        printf(")\n    _describe command commands\n    return\n  fi\n  local command=$words[2]\n"
               "  shift words\n  ((CURRENT--))\n  case $command in\n");
    } else {
        printf("complete -c orthrus -f\n");
        for (size_t i = 0; i < n; i++) {
            printf("complete -c orthrus -n __fish_use_subcommand -a %s -d '", names[i]);
            quoted(summaries[i], false);
            printf("'\n");
        }
    }
}

void manual_end(enum manual_style style)
{
    if (style == MANUAL_BASH) {
        printf("  esac\n"
               "  if [[ $word == -* || $COMP_CWORD -eq 1 ]]; then\n"
               "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
               "  else\n"
               "    COMPREPLY=($(compgen -f -- \"$word\"))\n"
               "  fi\n"
               "}\n"
               "complete -o filenames -F _orthrus orthrus\n");
    } else if (style == MANUAL_ZSH) {
        printf("  esac\n}\n_orthrus \"$@\"\n");
    }
}
