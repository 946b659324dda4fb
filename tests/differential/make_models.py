"""Saves tiny models of many kinds with the installed transformers and sentence-transformers, and what those libraries
answer, in the layout of tests/data/models: make_models.py FOLDER [seed] for what embeds, --heads FOLDER [seed] for fine-tuned heads; --expect
FOLDER for one that is there. Reached from test_models.py and test_heads_models.py under ORTHRUS_FULL=1."""

import json
import os
import pathlib
import random
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors  # noqa: E402
from tokenizers import models as tokenizer_models  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORDS = (ROOT / "data" / "golden" / "tiny-bert" / "vocab.txt").read_text().splitlines()
TEXTS = ["", "hello world", "The END of It", "to end: it", "the end of it and not much more about the end of that, is it?",
         "Café naïve", "the the the " * 40]
MODES = ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]


def tokenizer(lower, roberta):
    pad, unk, cls, sep, mask = ("<pad>", "<unk>", "<s>", "</s>", "<mask>") if roberta else WORDS[:5]
    words = [cls, pad, sep, unk, mask, *WORDS[5:]] if roberta else WORDS
    made = Tokenizer(tokenizer_models.WordPiece({word: i for i, word in enumerate(words)}, unk_token=unk))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, words.index(cls)), (sep, words.index(sep))])
    made.add_special_tokens([AddedToken(word, special=True) for word in (pad, unk, cls, sep, mask)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, unk_token=unk, cls_token=cls, sep_token=sep, mask_token=mask,
        model_max_length=96)


NAMES = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}


def encoder(rng, family, activation, task=None, **labels):
    heads = rng.choice([2, 4])
    hidden, inner, layers, positions = heads * rng.choice([8, 12]), rng.choice([40, 96]), rng.choice([1, 3]), 100
    torch.manual_seed(rng.randrange(1 << 30))
    if family == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=len(WORDS), dim=hidden, n_heads=heads, hidden_dim=inner, n_layers=layers,
            max_position_embeddings=positions, activation=activation, initializer_range=0.2, **labels)
        return getattr(transformers, NAMES[family] + (task or "Model"))(config)
    kind = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig,
            "xlm-roberta": transformers.XLMRobertaConfig}[family]
    config = kind(vocab_size=len(WORDS), hidden_size=hidden, num_attention_heads=heads, intermediate_size=inner,
                  num_hidden_layers=layers, max_position_embeddings=positions, hidden_act=activation,
                  layer_norm_eps=rng.choice([1e-12, 1e-5]), initializer_range=0.2,
                  **({} if family == "bert" else {"pad_token_id": 1, "type_vocab_size": 1}), **labels)
    return getattr(transformers, NAMES[family] + (task or "Model"))(config)


def save_encoder(rng, folder, family, activation, task=None, **labels):
    model = encoder(rng, family, activation, task, **labels).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # biases and norms that matter
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer(rng.random() < 0.6, "roberta" in family).save_pretrained(folder)
    return model.config.hidden_size if family != "distilbert" else model.config.dim


def sentence_model(rng, folder, family, activation, modes, **how):
    width = save_encoder(rng, folder / "plain", family, activation)
    # Pooling takes what sentence-transformers 6 takes: words, or a tuple of them.
    settings = {"max_seq_length": how["limit"]} if how.get("limit") else {}
    modules = [Transformer(str(folder / "plain"), **settings),
               Pooling(width, pooling_mode=tuple(modes) if len(modes) > 1 else modes[0],
                       include_prompt=how.get("include_prompt", True))]
    width *= len(modes)
    for function, bias in how.get("dense", []):
        modules.append(Dense(width, 20, bias=bias, activation_function=function))
        width = 20
    if how.get("normalize"):
        modules.append(Normalize())
    prompts = {"query": "to end: ", "document": "the: "} if how.get("prompts") else None
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu",
                                default_prompt_name="query" if how.get("default") else None)
    model.save(str(folder))
    for path in sorted((folder / "plain").iterdir()):
        path.unlink()
    (folder / "plain").rmdir()


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def expectations(folder):
    model = SentenceTransformer(str(folder), device="cpu")
    encode = lambda texts, **more: [[float(x) for x in row] for row in  # noqa: E731
                                    model.encode(texts, normalize_embeddings=True, batch_size=1, **more)]
    fast = model.tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    limit = min(model.max_seq_length, model[0].model.config.max_position_embeddings)
    if "roberta" in model[0].model.config.model_type:
        limit = min(limit, model[0].model.config.max_position_embeddings - 2)
    model.max_seq_length = limit
    ids = [fast.encode(text).ids for text in TEXTS]
    ids = [row if len(row) <= limit else row[: limit - 1] + row[-1:] for row in ids]
    found = {"kind": "embed", "texts": TEXTS, "max_length": limit, "embeddings": encode(TEXTS), "ids": ids}
    named = {name for name, text in model.prompts.items() if text}
    if named:
        found["prompt_texts"] = TEXTS[1:5]
        found["prompts"] = {name: encode(TEXTS[1:5], prompt_name=name) for name in sorted(named)}
    return found


def kinds(rng):
    """(name, how to save it into a folder)."""
    for family in ("bert", "distilbert", "roberta", "xlm-roberta"):
        for activation in ACTIVATIONS:
            yield f"{family}-{activation}", lambda f, a=family, b=activation: sentence_model(rng, f, a, b, ["mean"])
    for mode in MODES:
        yield f"pooling-{mode}", lambda f, m=mode: sentence_model(rng, f, "bert", "gelu", [m], normalize=True)
        yield f"without-prompt-{mode}", lambda f, m=mode: sentence_model(
            rng, f, "distilbert", "gelu", [m], prompts=True, include_prompt=False, default=True)
    yield "several-poolings", lambda f: sentence_model(rng, f, "bert", "gelu", ["lasttoken", "mean", "cls"], normalize=True)
    identity, tanh = torch.nn.Identity(), torch.nn.Tanh()
    yield "dense-tanh", lambda f: sentence_model(rng, f, "bert", "gelu", ["mean"], dense=[(tanh, True)])
    yield "dense-two", lambda f: sentence_model(rng, f, "roberta", "gelu", ["max", "cls"], normalize=True,
                                                dense=[(identity, False), (torch.nn.GELU(), True)])
    yield "limit", lambda f: sentence_model(rng, f, "bert", "gelu", ["mean"], limit=17)
    yield "prompts", lambda f: sentence_model(rng, f, "xlm-roberta", "gelu", ["mean"], prompts=True, default=True)
    yield "prompts-without-default", lambda f: sentence_model(rng, f, "bert", "gelu", ["cls"], prompts=True)

    def lower(folder):
        sentence_model(rng, folder, "bert", "gelu", ["mean"])
        change(folder / "sentence_bert_config.json", do_lower_case=True)
        change(folder / "tokenizer.json", normalizer={"type": "BertNormalizer", "clean_text": True, "lowercase": False,
                                                      "handle_chinese_chars": True, "strip_accents": None})

    def older(folder):
        sentence_model(rng, folder, "bert", "gelu", ["cls", "mean"], limit=30)
        pooling = folder / "1_Pooling" / "config.json"
        width = json.loads(pooling.read_text())["embedding_dimension"]
        pooling.write_text(json.dumps({"word_embedding_dimension": width, "pooling_mode_cls_token": True,
                                       "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}))
        names = {"0": "Transformer", "1": "Pooling"}
        modules = json.loads((folder / "modules.json").read_text())
        for module in modules:
            module["type"] = "sentence_transformers.models." + names[module["name"]]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 30, "do_lower_case": False}))

    yield "lower-case", lower
    yield "older-release", older


# --- Fine-tuned heads -------------------------------------------------------------------------------------------------------

PAIRS = [["the end of it", "hello world"], ["", "the end"], ["The END", "it and not much more about the end " * 20]]
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}


def head_kinds():
    """(name, family, task, what the config says of labels)."""
    several = {"num_labels": 5, "id2label": dict(enumerate("abcde")), "label2id": {c: i for i, c in enumerate("abcde")}}
    for family in NAMES:
        for name, labels in {
            "two": {"num_labels": 2}, "several": several, "score": {"num_labels": 1},
            "single": {"num_labels": 3, "problem_type": "single_label_classification"},
            "multi": {"num_labels": 3, "problem_type": "multi_label_classification"},
            "multi-one": {"num_labels": 1, "problem_type": "multi_label_classification"},
            "regression": {"num_labels": 1, "problem_type": "regression"},
        }.items():  # fmt: skip
            yield f"{family}-{name}", family, "ForSequenceClassification", labels
        yield f"{family}-tags", family, "ForTokenClassification", {"id2label": TAGS, "label2id": {v: k for k, v in TAGS.items()}}
        yield f"{family}-plain-tags", family, "ForTokenClassification", {"num_labels": 3}


def tagged(model, tokens):
    pipeline = transformers.pipeline("token-classification", model=model, tokenizer=tokens, device="cpu")
    plain = lambda entry: {key: value if isinstance(value, str) or value is None else  # noqa: E731
                           float(value) if key == "score" else int(value) for key, value in entry.items()}
    texts = TEXTS[1:6]
    return {"strategy_texts": texts, "strategies": {
        strategy: [[plain(entry) for entry in row] for row in pipeline(texts, aggregation_strategy=strategy)]
        for strategy in ("none", "simple", "first", "average", "max")}}  # fmt: skip


def classified(model, tokens, family):
    positions = model.config.max_position_embeddings - (2 if "roberta" in family else 0)
    cut = {"truncation": True, "max_length": min(tokens.model_max_length, positions)}
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokens, top_k=None, device="cpu")
    flat = lambda answer: answer[0] if isinstance(answer[0], list) else answer  # noqa: E731
    with torch.no_grad():
        logits = lambda *texts: model(**tokens(*texts, **cut, return_tensors="pt")).logits[0].tolist()  # noqa: E731
        return {"labels": [model.config.id2label[i] for i in range(model.config.num_labels)], "texts": TEXTS,
                "logits": [logits(text) for text in TEXTS], "pairs": PAIRS, "pair_logits": [logits(*pair) for pair in PAIRS],
                "scores": [{e["label"]: e["score"] for e in flat(pipeline(text, **cut))} for text in TEXTS]}  # fmt: skip


def make_heads(out, seed):
    rng = random.Random(seed)
    expected = {}
    for name, family, task, labels in head_kinds():
        folder = out / name
        folder.mkdir(parents=True)
        save_encoder(rng, folder, family, rng.choice(ACTIVATIONS), task, **labels)
        model = getattr(transformers, NAMES[family] + task).from_pretrained(folder, dtype=torch.float32).eval()
        tokens = transformers.AutoTokenizer.from_pretrained(folder)
        expected[name] = tagged(model, tokens) if "Token" in task else classified(model, tokens, family)
    (out / "heads-expected.json").write_text(json.dumps(expected))


def main():
    if sys.argv[1] == "--heads":
        make_heads(pathlib.Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
        return
    if sys.argv[1] == "--expect":  # of a folder that is there
        print(json.dumps(expectations(pathlib.Path(sys.argv[2]))))
        return
    out, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    rng = random.Random(seed)
    expected = {}
    for name, make in kinds(rng):
        (out / name).mkdir(parents=True)
        make(out / name)
        expected[name] = expectations(out / name)
    (out / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
