/* Which fields of config.json are honoured, without influence or refused. */
#include <string.h>

#include "model/files/config_private.h"

/* config.json, apart from what the architecture's row names. */
static const struct field_rule model_rules[] = {
    {"architectures", FIELD_READ},
    {"model_type", FIELD_READ},
    {"id2label", FIELD_READ},
    {"num_labels", FIELD_READ},
    {"_num_labels", FIELD_READ},
    {"problem_type", FIELD_READ},
    {"position_embedding_type", FIELD_READ},
    {"embedding_size", FIELD_READ},
    {"max_position_embeddings", FIELD_READ},
    {"vocab_size", FIELD_READ},
    {"type_vocab_size", FIELD_READ},
    {"layer_norm_eps", FIELD_READ},
    {"pad_token_id", FIELD_READ},
    /* another computation out of the same tensors, or tensors that are no plain floats */
    {"is_decoder", FIELD_FALSE},
    {"add_cross_attention", FIELD_FALSE},
    {"is_encoder_decoder", FIELD_FALSE},
    {"auto_map", FIELD_EMPTY},
    {"pruned_heads", FIELD_EMPTY},
    {"quantization_config", FIELD_EMPTY},
    {"compression_config", FIELD_EMPTY},
    {"adapters", FIELD_EMPTY},
    {"adapter_fusion", FIELD_EMPTY},
    {"custom_pipelines", FIELD_EMPTY},
    /* training, generation, the library's own book-keeping */
    {"_name_or_path", FIELD_NONE},
    {"_commit_hash", FIELD_NONE},
    {"_attn_implementation", FIELD_NONE},
    {"_attn_implementation_autoset", FIELD_NONE},
    {"attn_implementation", FIELD_NONE},
    {"bad_words_ids", FIELD_NONE},
    {"begin_suppress_tokens", FIELD_NONE},
    {"bos_token_id", FIELD_NONE},
    {"chunk_size_feed_forward", FIELD_NONE},
    {"classifier_dropout", FIELD_NONE},
    {"cls_token_id", FIELD_NONE},
    {"cross_attention_hidden_size", FIELD_NONE},
    {"decoder_start_token_id", FIELD_NONE},
    {"directionality", FIELD_NONE},
    {"diversity_penalty", FIELD_NONE},
    {"do_sample", FIELD_NONE},
    {"dtype", FIELD_NONE},
    {"early_stopping", FIELD_NONE},
    {"encoder_no_repeat_ngram_size", FIELD_NONE},
    {"eos_token_id", FIELD_NONE},
    {"exponential_decay_length_penalty", FIELD_NONE},
    {"finetuning_task", FIELD_NONE},
    {"forced_bos_token_id", FIELD_NONE},
    {"forced_eos_token_id", FIELD_NONE},
    {"gradient_checkpointing", FIELD_NONE},
    {"initializer_range", FIELD_NONE},
    {"label2id", FIELD_NONE},
    {"language", FIELD_NONE},
    {"length_penalty", FIELD_NONE},
    {"max_length", FIELD_NONE},
    {"min_length", FIELD_NONE},
    {"name", FIELD_NONE},
    {"no_repeat_ngram_size", FIELD_NONE},
    {"num_beam_groups", FIELD_NONE},
    {"num_beams", FIELD_NONE},
    {"num_return_sequences", FIELD_NONE},
    {"output_attentions", FIELD_NONE},
    {"output_hidden_states", FIELD_NONE},
    {"output_past", FIELD_NONE},
    {"output_scores", FIELD_NONE},
    {"pooler_fc_size", FIELD_NONE},
    {"pooler_num_attention_heads", FIELD_NONE},
    {"pooler_num_fc_layers", FIELD_NONE},
    {"pooler_size_per_head", FIELD_NONE},
    {"pooler_type", FIELD_NONE},
    {"prefix", FIELD_NONE},
    {"qa_dropout", FIELD_NONE},
    {"remove_invalid_values", FIELD_NONE},
    {"repetition_penalty", FIELD_NONE},
    {"return_dict", FIELD_NONE},
    {"return_dict_in_generate", FIELD_NONE},
    {"sentence_transformers", FIELD_NONE},
    {"sep_token_id", FIELD_NONE},
    {"seq_classif_dropout", FIELD_NONE},
    {"sinusoidal_pos_embds", FIELD_NONE},
    {"suppress_tokens", FIELD_NONE},
    {"task_specific_params", FIELD_NONE},
    {"temperature", FIELD_NONE},
    {"tf_legacy_loss", FIELD_NONE},
    {"tie_encoder_decoder", FIELD_NONE},
    {"tie_weights_", FIELD_NONE},
    {"tie_word_embeddings", FIELD_NONE},
    {"tokenizer_class", FIELD_NONE},
    {"top_k", FIELD_NONE},
    {"top_p", FIELD_NONE},
    {"torch_dtype", FIELD_NONE},
    {"torchscript", FIELD_NONE},
    {"transformers.js_config", FIELD_NONE},
    {"transformers_version", FIELD_NONE},
    {"typical_p", FIELD_NONE},
    {"use_bfloat16", FIELD_NONE},
    {"use_cache", FIELD_NONE},
    {"use_return_dict", FIELD_NONE},
};
enum { MODEL_RULES = sizeof model_rules / sizeof *model_rules, ROW_FIELDS = 7 };

/* The rules and the names that the architecture's row gives. */
enum err_code config_apply_rules(const struct fields *fields, struct config *config)
{
    const struct architecture *row = config->architecture;
    const char *const names[ROW_FIELDS] = {
        row->hidden_size, row->heads,          row->intermediate_size, row->layers,
        row->activation,  row->hidden_dropout, row->attention_dropout};
    struct field_rule rules[MODEL_RULES + ROW_FIELDS];
    memcpy(rules, model_rules, sizeof model_rules);
    for (size_t i = 0; i < ROW_FIELDS; i++) {
        rules[MODEL_RULES + i] = (struct field_rule){names[i], FIELD_READ};
    }
    return fields_apply(fields, rules, MODEL_RULES + ROW_FIELDS, config);
}
