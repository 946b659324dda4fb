"""A BERT checkpoint from a TensorFlow SavedModel into Hugging Face's folder layout.

The tensors keep the order they have in the data file, so that it is read once from front to
end; the same input gives the same bytes.
"""

import hashlib
import json
import math
import re
import struct
from array import array

from . import archive, bundle
from .errors import FetchError

CONFIG = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}

_DATA = "variables/variables.data-00000-of-00001"
_INDEX = "variables/variables.index"
_VOCAB = "assets/vocab.txt"
_VOCAB_MAX_BYTES = 4 << 20


def config_json():
    """The hub's config.json of bert-base-uncased, byte for byte."""
    return (json.dumps(CONFIG, indent=2) + "\n").encode()


def tokenizer_config_json():
    return b'{"do_lower_case": true, "model_max_length": 512}'


def tokenizer_json(vocab):
    """The fast BertTokenizer over the bytes of a vocab.txt; for bert-base-uncased the hub's own
    tokenizer.json, byte for byte."""
    ids = {}
    for word in vocab.decode("utf-8").split("\n")[:-1]:
        ids[word] = len(ids)

    def special(token):
        return {"id": ids[token], "special": True, "content": token, "single_word": False,
                "lstrip": False, "rstrip": False, "normalized": False}

    def piece(token, kind):
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def text(name, kind):
        return {"Sequence": {"id": name, "type_id": kind}}

    def template(token):
        return {"id": token, "ids": [ids[token]], "tokens": [token]}

    single = [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0)]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special(t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": True,
                       "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single + [text("B", 1), piece("[SEP]", 1)],
            "special_tokens": {t: template(t) for t in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def expected_shapes(config):
    """{Hugging Face name: shape} of the encoder and pooler that a config describes."""
    h, i = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], h),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
        "pooler.dense.weight": (h, h),
        "pooler.dense.bias": (h,),
    }
    linears = {"attention.self.query": (h, h), "attention.self.key": (h, h),
               "attention.self.value": (h, h), "attention.output.dense": (h, h),
               "intermediate.dense": (i, h), "output.dense": (h, i)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        for name, shape in linears.items():
            shapes[prefix + name + ".weight"] = shape
            shapes[prefix + name + ".bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[prefix + name + ".weight"] = (h,)
            shapes[prefix + name + ".bias"] = (h,)
    return shapes


def hugging_face_name(name):
    """(Hugging Face's name, whether to transpose) of a TensorFlow variable of BERT, or None for
    what is no part of the encoder (the heads it was pre-trained with)."""
    match = re.fullmatch(r"(?:module/)?bert/(.+)", name)
    if not match:
        return None
    parts = match.group(1).split("/")
    last = parts[-1]
    if last == "kernel":  # TensorFlow multiplies x·W of [in, out], PyTorch keeps [out, in]
        parts[-1] = "weight"
    elif last == "gamma":
        parts[-1] = "weight"
    elif last == "beta":
        parts[-1] = "bias"
    elif last.endswith("_embeddings"):
        parts.append("weight")
    text = re.sub(r"\blayer_(\d+)\b", r"layer.\1", ".".join(parts))
    return text, last == "kernel"


def plan(found, config):
    """[(Tensor, Hugging Face name, shape to write, transposed), ...] in the data file's order.
    An error unless exactly the tensors of the config are there, each of its shape."""
    missing = expected_shapes(config)
    steps = []
    for tensor in sorted(found.values(), key=lambda t: t.offset):
        renamed = hugging_face_name(tensor.name)
        if renamed is None:
            continue
        name, transposed = renamed
        shape = missing.pop(name, None)
        if shape is None:
            raise FetchError(f"{_INDEX}: unexpected tensor {tensor.name}")
        source = shape[::-1] if transposed else shape
        if tensor.dtype != bundle.DT_FLOAT or tensor.shape != source:
            raise FetchError(f"{_INDEX}: {tensor.name}: type {tensor.dtype} and shape"
                             f" {list(tensor.shape)}, expected float32 {list(source)}")
        if tensor.size != 4 * math.prod(source):
            raise FetchError(f"{_INDEX}: {tensor.name}: {tensor.size} bytes do not fit its shape")
        steps.append((tensor, name, shape, transposed))
    if missing:
        raise FetchError(f"{_INDEX}: no tensor for {min(missing)}")
    return steps


def transpose(data, rows, columns):
    """The bytes of a [rows, columns] matrix of 4-byte numbers as [columns, rows]."""
    matrix = array("f")
    matrix.frombytes(data)
    out = array("f")
    for column in range(columns):
        out.extend(matrix[column::columns])
    assert len(out) == rows * columns
    return out.tobytes()


def safetensors_header(steps):
    header = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor, name, shape, _ in steps:
        header[name] = {"dtype": "F32", "shape": list(shape),
                        "data_offsets": [at, at + tensor.size]}
        at += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class _Forward:
    """Reads a sequence of chunks by rising offset."""

    def __init__(self, chunks, progress):
        self._chunks = chunks
        self._buffer = bytearray()
        self._at = 0  # offset of the buffer's first byte
        self._progress = progress

    def _more(self):
        chunk = next(self._chunks, None)
        if chunk is None:
            raise FetchError(f"{_DATA}: ends too early")
        self._buffer += chunk
        self._progress.advance(len(chunk))

    def read(self, offset, size):
        if offset < self._at:
            raise FetchError(f"{_DATA}: two tensors overlap")
        while offset > self._at:
            if not self._buffer:
                self._more()
            skip = min(offset - self._at, len(self._buffer))
            del self._buffer[:skip]
            self._at += skip
        while len(self._buffer) < size:
            self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._at += size
        return data

    def drain(self):
        """To the end, so that the archive's checksum is compared."""
        for chunk in self._chunks:
            self._progress.advance(len(chunk))


def data_size(saved_model, label):
    return archive.member_size(saved_model, _DATA, label)


def read_vocab(saved_model, label):
    return archive.read_small(saved_model, _VOCAB, _VOCAB_MAX_BYTES, label)


def write_safetensors(saved_model, config, path, progress, label):
    """Converts the variables of a zipped SavedModel into a new file; -> its SHA-256."""
    index = archive.read_small(saved_model, _INDEX, bundle.MAX_INDEX_BYTES, label)
    try:
        steps = plan(bundle.tensors(index), config)
    except bundle.BundleError as e:
        raise FetchError(f"{label}: {_INDEX}: {e}") from e
    digest = hashlib.sha256()
    source = _Forward(archive.chunks(saved_model, _DATA, label), progress)
    with open(path, "xb") as out:
        def put(data):
            out.write(data)
            digest.update(data)

        put(safetensors_header(steps))
        for tensor, _, _, transposed in steps:
            data = source.read(tensor.offset, tensor.size)
            put(transpose(data, *tensor.shape) if transposed else data)
        source.drain()
    return digest.hexdigest()
