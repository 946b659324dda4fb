/* A canonical text of a tokenizer's rules, and its SHA-256. Whether they came from a tokenizer.json
 * or a vocab.txt, in which order and with which defaults written out, makes no difference; what
 * changes only offsets or decoding is left out. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/text/rules/rules.h"

enum { LINE_MAX = 256 };

static void line(struct sha256 *sha, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void line(struct sha256 *sha, const char *fmt, ...)
{
    char text[LINE_MAX];
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    sha256_update(sha, text, (size_t)size);
}

/* A text of any bytes, with its size before it. */
static void text(struct sha256 *sha, const char *bytes, size_t size)
{
    line(sha, "%zu ", size);
    sha256_update(sha, bytes, size);
    line(sha, "\n");
}

static void digest_words(struct sha256 *sha, const struct subword *subword)
{
    for (size_t id = 0; id < subword->words.ids; id++) {
        struct word word = words_at(&subword->words, (int64_t)id);
        if (word.bytes) {
            line(sha, "%zu ", id);
            if (subword->scores) {
                line(sha, "%.17g ", subword->scores[id]);
            }
            text(sha, word.bytes, word.size);
        }
    }
}

/* Merges by their rank: a pair that comes again takes the later one's, so the order decides. */
static void digest_merges(struct sha256 *sha, const struct subword *subword)
{
    for (size_t rank = 0; rank < subword->n_merges; rank++) {
        uint64_t pair = subword->pairs[rank];
        line(sha, "merge %d %d %d\n", (int)(pair >> 32), (int)(pair & UINT32_MAX),
             subword->results[rank]);
    }
}

static void digest_subword(struct sha256 *sha, const struct subword *subword)
{
    static const char *const names[] = {"WordPiece", "Unigram", "BPE"};
    line(sha, "model %s unk %d bytes %d chars %zu fuse %d ignore %d\n", names[subword->kind],
         subword->unk, subword->byte_fallback, subword->max_chars, subword->fuse_unk,
         subword->ignore_merges);
    text(sha, subword->prefix, subword->prefix_size);
    text(sha, subword->suffix, subword->suffix_size);
    digest_words(sha, subword);
    digest_merges(sha, subword);
}

static void digest_steps(struct sha256 *sha, const struct pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->normalizer.n; i++) {
        const struct normalizer_step *step = &pipeline->normalizer.steps[i];
        line(sha, "normalizer %d %d%d%d%d %d%d\n", step->kind, step->clean, step->chinese,
             step->strip_accents, step->lowercase, step->left, step->right);
        text(sha, step->pattern, step->pattern_size);
        text(sha, step->content, step->content_size);
        text(sha, (const char *)step->charsmap.data, step->charsmap.size);
    }
    for (size_t i = 0; i < pipeline->pretokenizer.n; i++) {
        const struct pretokenizer_step *step = &pipeline->pretokenizer.steps[i];
        line(sha, "pretokenizer %d %d %d %d%d\n", step->kind, step->prepend, step->split,
             step->add_prefix_space, step->use_regex);
        text(sha, step->replacement, step->replacement_size);
    }
}

static void digest_added(struct sha256 *sha, const struct added *added)
{
    for (size_t i = 0; i < added->n; i++) {
        const struct added_token *token = &added->tokens[i];
        line(sha, "added %d %d%d%d%d ", token->id, token->single_word, token->lstrip, token->rstrip,
             token->normalized);
        text(sha, token->content, token->size);
    }
}

static void digest_row(struct sha256 *sha, const struct template_row *row)
{
    line(sha, "template");
    for (size_t i = 0; i < row->n; i++) {
        line(sha, " %d:%d:%d", row->pieces[i].kind, row->pieces[i].id, row->pieces[i].type);
    }
    line(sha, "\n");
}

enum err_code rules_digest(const struct rules *rules, char out[SHA256_HEX_SIZE + 1],
                           struct err *err)
{
    struct sha256 *sha = sha256_create();
    if (!sha) {
        return err_nomem(err, 1);
    }
    digest_subword(sha, &rules->pipeline.subword);
    digest_steps(sha, &rules->pipeline);
    digest_added(sha, &rules->pipeline.added);
    digest_row(sha, &rules->template.single);
    digest_row(sha, &rules->template.pair);
    unsigned char digest[SHA256_SIZE];
    sha256_finish(sha, digest);
    sha256_hex(digest, out);
    return ERR_OK;
}
