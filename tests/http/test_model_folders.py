"""What the files of a model folder do to answers: prompts, pooling, Dense, limits, refusals at the start."""
import json
import math
import shutil
import struct
import subprocess

import pytest
from conftest import BIN, ROOT, TINY, Server

TEXT = "the end of it"
TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
NORMALIZE = {"idx": 3, "name": "3", "path": "3_Normalize",
             "type": "sentence_transformers.sentence_transformer.modules.normalize.Normalize"}
WIDTH = 32


@pytest.fixture
def folder(tmp_path):
    """A copy of the tiny model without heads."""
    path = tmp_path / "model"
    path.mkdir()
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        shutil.copy(TINY / name, path / name)
    return path


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def change(path, **fields):
    write(path, {**json.loads(path.read_text()), **fields})


def write_modules(folder, *modules, pooling=None):
    write(folder / "modules.json", list(modules))
    write(folder / "1_Pooling" / "config.json", pooling or {"pooling_mode_mean_tokens": True})


def write_tensors(path, tensors):
    """name: (shape, values), as a safetensors file."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        chunk = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(chunk)]}
        data += chunk
    text = json.dumps(header).encode()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def embed(server, text=TEXT, **fields):
    reply = server.post("/embed", {"inputs": text, "normalize": False, **fields})
    assert reply.status == 200, reply.body
    return reply.json()[0]


def near(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b)) < 2e-5


def refused(folder):
    """The line on stderr of a start that ends with status 1."""
    done = subprocess.run([BIN, "serve", "--model", str(folder), "--listen", "127.0.0.1:0", "--admin-listen", "off"],
                          stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    return done.stderr


def warnings(server):
    return [line["what"] for line in server.lines if line["message"] == "model folder"]


def test_prompts(start, folder):
    write(folder / "config_sentence_transformers.json",
          {"prompts": {"query": "to end: ", "document": ""}, "default_prompt_name": "query"})
    server = start("--precision", "fp32", model=folder)
    plain = embed(server, prompt_name="")
    asked = embed(server)
    assert near(asked, embed(server, "to end: " + TEXT, prompt_name=""))
    assert near(asked, embed(server, prompt_name="query"))
    assert near(plain, embed(server, prompt_name="document"))
    assert not near(asked, plain)
    openai = server.post("/v1/embeddings", {"input": TEXT, "prompt_name": ""}).json()["data"][0]["embedding"]
    assert near(openai, embed(server, prompt_name="", normalize=True))
    assert near(server.post("/v1/embeddings", {"input": TEXT}).json()["data"][0]["embedding"],
                embed(server, normalize=True))
    analyzed = server.post("/analyze", {"inputs": TEXT, "tasks": ["embed"], "normalize": False}).json()
    assert near(analyzed["results"][0]["embedding"], plain)
    unknown = server.post("/embed", {"inputs": TEXT, "prompt_name": "passage"})
    assert (unknown.status, unknown.code) == (422, "unsupported_value")
    assert '"query"' in unknown.json()["error"] and '"document"' in unknown.json()["error"]
    ids = [token["id"] for token in server.post("/tokenize", {"inputs": TEXT}).json()[0]]
    with_ids = server.post("/v1/embeddings", {"input": [ids], "prompt_name": "query"})
    assert with_ids.status in (400, 422)
    assert near(server.post("/v1/embeddings", {"input": [ids]}).json()["data"][0]["embedding"],
                embed(server, prompt_name="", normalize=True))
    named = server.post("/tokenize", {"inputs": TEXT, "prompt_name": "query"}).json()[0]
    assert len(named) > len(ids)


def test_prompt_tokens_that_pooling_leaves_out(start, folder):
    """include_prompt false: the mean over what stands behind the prompt, its [CLS] left out with it."""
    prompts = {"prompts": {"query": "to end: "}, "default_prompt_name": None}
    write(folder / "config_sentence_transformers.json", prompts)
    write_modules(folder, TRANSFORMER, POOLING, pooling={"pooling_mode": "mean", "include_prompt": False})
    server = start("--precision", "fp32", model=folder)
    left_out = embed(server, prompt_name="query")
    write_modules(folder, TRANSFORMER, POOLING, pooling={"pooling_mode": ["mean", "cls"], "include_prompt": True})
    both = start("--precision", "fp32", model=folder)
    assert len(embed(both)) == 2 * WIDTH
    assert not near(left_out, embed(both, prompt_name="query")[:WIDTH])
    # mean over all n tokens and over the last n - p: the lasttoken and mean modes bound them both
    assert near(embed(server), embed(both)[:WIDTH])


def test_pooling_modes(start, folder):
    vectors = {}
    for modes in (["mean"], ["cls"], ["max"], ["mean_sqrt_len_tokens"], ["weightedmean"], ["lasttoken"],
                  ["max", "cls", "mean"]):
        write_modules(folder, TRANSFORMER, POOLING, pooling={"embedding_dimension": WIDTH, "pooling_mode": modes})
        server = start("--precision", "fp32", model=folder)
        vectors[tuple(modes)] = embed(server)
        tokens = len(server.post("/tokenize", {"inputs": TEXT}).json()[0])
        server.stop()
    assert vectors[("max", "cls", "mean")] == vectors[("max",)] + vectors[("cls",)] + vectors[("mean",)]
    root = math.sqrt(tokens)
    assert near([x * root for x in vectors[("mean",)]], vectors[("mean_sqrt_len_tokens",)])
    assert all(m >= c - 1e-6 and m >= last - 1e-6 for m, c, last in
               zip(vectors[("max",)], vectors[("cls",)], vectors[("lasttoken",)]))
    assert len({tuple(v) for v in vectors.values()}) == 7


def test_dense_in_the_order_of_modules(start, folder):
    weight = [((i * 7 + o * 3) % 11 - 5) / 10 for o in range(5) for i in range(WIDTH)]
    bias = [0.1 * o for o in range(5)]
    write_modules(folder, TRANSFORMER, POOLING, DENSE, NORMALIZE)
    write(folder / "2_Dense" / "config.json", {"in_features": WIDTH, "out_features": 5, "bias": True,
                                               "activation_function": "torch.nn.modules.activation.Tanh"})
    write_tensors(folder / "2_Dense" / "model.safetensors",
                  {"linear.weight": ([5, WIDTH], weight), "linear.bias": ([5], bias)})
    server = start("--precision", "fp32", model=folder)
    got = embed(server)
    pooled = embed(start("--precision", "fp32"))  # the tiny model itself
    expected = [math.tanh(sum(weight[o * WIDTH + i] * pooled[i] for i in range(WIDTH)) + bias[o]) for o in range(5)]
    assert near(got, expected)
    unit = embed(server, normalize=True)
    assert abs(sum(x * x for x in unit) - 1) < 1e-5
    assert len(embed(server, dimensions=3)) == 3
    assert server.post("/embed", {"inputs": TEXT, "dimensions": 6}).status == 422
    change(folder / "2_Dense" / "config.json", use_residual=True)
    assert "2_Dense/config.json: use_residual" in refused(folder)


ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": lambda x: x,
    "torch.nn.ReLU": lambda x: max(x, 0.0),
    "torch.nn.modules.activation.GELU": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "torch.nn.SiLU": lambda x: x / (1 + math.exp(-x)),
    None: math.tanh,
}


@pytest.fixture(scope="module")
def pooled():
    server = Server("--precision", "fp32")  # the tiny model itself
    yield embed(server)
    server.stop()


@pytest.mark.parametrize("name", ACTIVATIONS, ids=str)
def test_what_a_dense_module_computes(start, folder, pooled, name):
    """Two of them, the first behind a Normalize and without bias."""
    first = [((i * 5 + o * 3) % 13 - 6) / 5 for o in range(7) for i in range(WIDTH)]
    second = [((i + o * 2) % 5 - 2) / 3 for o in range(3) for i in range(7)]
    write_modules(folder, TRANSFORMER, POOLING, {**NORMALIZE, "idx": 2}, {**DENSE, "idx": 3}, {**DENSE, "idx": 4, "path": "4_Dense"})
    said = {"activation_function": name} if name else {}
    write(folder / "2_Dense" / "config.json", {"in_features": WIDTH, "out_features": 7, "bias": False, **said})
    write_tensors(folder / "2_Dense" / "model.safetensors", {"linear.weight": ([7, WIDTH], first)})
    write(folder / "4_Dense" / "config.json", {"in_features": 7, "out_features": 3, "activation_function": "torch.nn.Identity"})
    write_tensors(folder / "4_Dense" / "model.safetensors", {"linear.weight": ([3, 7], second), "linear.bias": ([3], [0.5, 0, -0.5])})
    norm = math.sqrt(sum(x * x for x in pooled))
    middle = [ACTIVATIONS[name](sum(first[o * WIDTH + i] * pooled[i] / norm for i in range(WIDTH))) for o in range(7)]
    expected = [sum(second[o * 7 + i] * middle[i] for i in range(7)) + (0.5, 0, -0.5)[o] for o in range(3)]
    assert near(embed(start("--precision", "fp32", model=folder)), expected)


@pytest.mark.parametrize("tensors, words", [
    ({"linear.bias": ([5], [0] * 5)}, ("linear.weight", "missing")),
    ({"linear.weight": ([5, WIDTH], [0] * 5 * WIDTH)}, ("linear.bias", "missing")),
    ({"linear.weight": ([WIDTH, 5], [0] * 5 * WIDTH), "linear.bias": ([5], [0] * 5)}, ("linear.weight", "[32, 5]", "[5, 32]")),
    ({"linear.weight": ([5, WIDTH], [0] * 5 * WIDTH), "linear.bias": ([5], [0, 0, math.nan, 0, 0])}, ("linear.bias", "value 2")),
    ({"linear.weight": ([5, WIDTH], [0] * 5 * WIDTH), "linear.bias": ([5], [0] * 5), "gate.weight": ([1], [0])}, ("gate.weight",)),
    (None, ("2_Dense",)),
])
def test_a_dense_module_that_is_not_whole_ends_the_start(folder, tensors, words):
    write_modules(folder, TRANSFORMER, POOLING, DENSE)
    write(folder / "2_Dense" / "config.json", {"in_features": WIDTH, "out_features": 5})
    if tensors:
        write_tensors(folder / "2_Dense" / "model.safetensors", tensors)
    said = refused(folder)
    assert all(word in said for word in words), said


def test_truncate_dim(start, folder):
    write(folder / "config_sentence_transformers.json", {"truncate_dim": 8})
    server = start("--precision", "fp32", model=folder)
    plain = embed(start("--precision", "fp32"))
    assert near(embed(server), plain[:8])
    norm = math.sqrt(sum(x * x for x in plain[:8]))
    assert near(embed(server, normalize=True), [x / norm for x in plain[:8]])
    write(folder / "config_sentence_transformers.json", {"truncate_dim": 1000})  # as the library: all there are
    assert near(embed(start("--precision", "fp32", model=folder)), plain)


@pytest.mark.parametrize(("modules", "sentence", "tokenizer", "limit"), [
    (False, None, None, 64),  # 128, but the tiny model has 64 positions
    (False, None, {"model_max_length": 20}, 64),  # a bare encoder's is not its tokenizer's
    (True, {"max_seq_length": 12}, {"model_max_length": 20}, 12),
    (True, None, {"model_max_length": 20}, 20),
    (True, None, {"model_max_length": 1000000000000000019884624838656}, 64),
    (True, {"max_seq_length": None}, None, 64),
    (True, {"max_seq_length": 2000000000}, None, 64),
])
def test_token_limit(start, folder, modules, sentence, tokenizer, limit):
    if modules:
        write_modules(folder, TRANSFORMER, POOLING)
    if sentence:
        write(folder / "sentence_bert_config.json", sentence)
    if tokenizer:
        write(folder / "tokenizer_config.json", tokenizer)
    assert start(model=folder).get("/info").json()["max_input_length"] == limit


def test_the_transformer_in_a_folder_of_its_own(start, folder, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    folder.rename(whole / "0_Transformer")
    write_modules(whole, {**TRANSFORMER, "path": "0_Transformer"}, POOLING)
    assert near(embed(start("--precision", "fp32", model=whole)), embed(start("--precision", "fp32")))


def test_the_first_releases_name_the_family(start, folder, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    folder.rename(whole / "0_BERT")
    write(whole / "0_BERT" / "sentence_bert_config.json", {"max_seq_length": 30, "do_lower_case": False})
    write_modules(whole, {**TRANSFORMER, "path": "0_BERT", "type": "sentence_transformers.models.BERT"}, POOLING)
    server = start("--precision", "fp32", model=whole)
    assert near(embed(server), embed(start("--precision", "fp32")))
    assert server.get("/info").json()["max_input_length"] == 30


def test_an_adapter_is_refused(folder):
    write(folder / "adapter_config.json", {"peft_type": "LORA"})
    assert "adapter_config.json" in refused(folder)


def test_an_unknown_field_is_one_warning(start, folder):
    change(folder / "config.json", brand_new_field=1)
    server = start(model=folder)
    assert [w for w in warnings(server) if "brand_new_field" in w and "config.json" in w]
    assert len(warnings(server)) == 1


@pytest.mark.parametrize(("name", "fields", "said"), [
    ("config.json", {"model_type": "nomic_bert"}, "model_type"),
    ("config.json", {"model_type": "mpnet", "architectures": ["MPNetForMaskedLM"]}, 'model_type: found a string "mpnet"'),
    ("config.json", {"auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
    ("config.json", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("config.json", {"hidden_act": "quick_gelu"}, "hidden_act"),
    ("config.json", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("config.json", {"is_decoder": True}, "is_decoder"),
    ("sentence_bert_config.json", {"query_length": 32}, "query_length"),
    ("sentence_bert_config.json", {"tokenizer_args": {"padding_side": "left"}}, "tokenizer_args"),
    ("config_sentence_transformers.json", {"default_prompt_name": "absent"}, "default_prompt_name"),
    ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type"),
])
def test_what_would_change_the_result_ends_the_start(folder, name, fields, said):
    path = folder / name
    write(path, {**(json.loads(path.read_text()) if path.exists() else {}), **fields})
    line = refused(folder)
    assert f"{name}: {said}" in line and len(line.splitlines()) >= 1


def test_weights_of_torch_alone(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "tools/convert-checkpoint" in refused(folder)


def test_a_pointer_in_the_weights_place(folder):
    (folder / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 440449768\n")
    line = refused(folder)
    assert f"{folder}/model.safetensors" in line and "git lfs pull" in line


def shard(folder):
    """model.safetensors cut into two shards and an index."""
    data = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    names = sorted(header)
    weight_map = {}
    for k, part in enumerate((names[::2], names[1::2])):
        out, blob = {}, b""
        for name in part:
            a, b = header[name]["data_offsets"]
            out[name] = {**header[name], "data_offsets": [len(blob), len(blob) + b - a]}
            blob += data[8 + size + a : 8 + size + b]
            weight_map[name] = f"model-0000{k + 1}-of-00002.safetensors"
        text = json.dumps(out).encode()
        (folder / f"model-0000{k + 1}-of-00002.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + blob)
    (folder / "model.safetensors").unlink()
    write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return weight_map


def test_shards(start, folder):
    shard(folder)
    server = start("--precision", "fp32", model=folder)
    whole = start("--precision", "fp32")
    assert embed(server) == embed(whole)
    assert server.get("/info").json()["model_sha"] == whole.get("/info").json()["model_sha"]


@pytest.mark.parametrize(("harm", "said"), [
    ("absent", "model-00002-of-00002.safetensors"),
    ("outside", "file of the folder itself"),
    ("unnamed", "does not name"),
    ("elsewhere", "is missing"),
    ("cut", "model-00001-of-00002.safetensors"),
])
def test_shards_that_do_not_fit_their_index(folder, harm, said):
    weight_map = shard(folder)
    name = next(key for key, value in weight_map.items() if value.startswith("model-00001"))
    if harm == "absent":
        (folder / "model-00002-of-00002.safetensors").unlink()
    elif harm == "outside":
        weight_map[name] = "../model-00001-of-00002.safetensors"
    elif harm == "unnamed":
        del weight_map[name]
    elif harm == "elsewhere":
        weight_map[name] = "model-00002-of-00002.safetensors"
    else:
        path = folder / "model-00001-of-00002.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
    write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    assert said in refused(folder)


def space(folder, *flags):
    """The whole id, from a start."""
    with_server = Server("--threads", "1", *flags, model=folder)
    try:
        found = with_server.get("/info").json()["embedding_space"]
        assert len(found["parts"]) == 9
        return found["id"]
    finally:
        with_server.stop()


def change_weight(path, tensor="encoder.layer.1.output.dense.bias"):
    """The lowest bit of one number."""
    data = bytearray(path.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    at = 8 + size + json.loads(data[8 : 8 + size])[tensor]["data_offsets"][0]
    data[at] ^= 1
    path.write_bytes(data)


def full_folder(folder):
    """Every kind of file that a space is made of."""
    write(folder / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 60})
    write(folder / "config_sentence_transformers.json",
          {"prompts": {"query": "to end: ", "document": "text: "}, "default_prompt_name": "query",
           "truncate_dim": None})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 50})
    write_modules(folder, TRANSFORMER, POOLING, DENSE, NORMALIZE, pooling={"pooling_mode": "mean"})
    write(folder / "2_Dense" / "config.json", {"in_features": WIDTH, "out_features": 5, "bias": True,
                                               "activation_function": "torch.nn.modules.activation.Tanh"})
    write_dense(folder, 0.25)


def write_dense(folder, first, shift=0.0):
    write_tensors(folder / "2_Dense" / "model.safetensors",
                  {"linear.weight": ([5, WIDTH], [first] + [0.5] * (5 * WIDTH - 1)),
                   "linear.bias": ([5], [shift] + [0.25] * 4)})


def swap_words(folder):
    words = (folder / "vocab.txt").read_text().split("\n")
    words[-4], words[-3] = words[-3], words[-4]
    (folder / "vocab.txt").write_text("\n".join(words))


CONFIG, ST = "config.json", "config_sentence_transformers.json"
# What changes a vector, one thing each.
MUTATIONS = {
    "a weight": lambda f: change_weight(f / "model.safetensors"),
    "attention heads": lambda f: change(f / CONFIG, num_attention_heads=8),
    "eps": lambda f: change(f / CONFIG, layer_norm_eps=1e-5),
    "activation": lambda f: change(f / CONFIG, hidden_act="relu"),
    "two words": swap_words,
    "lower case": lambda f: change(f / "tokenizer_config.json", do_lower_case=False),
    "accents": lambda f: change(f / "tokenizer_config.json", strip_accents=False),
    "CJK": lambda f: change(f / "tokenizer_config.json", tokenize_chinese_chars=False),
    "a prompt's text": lambda f: change(f / ST, prompts={"query": "to end:", "document": "text: "}),
    "a prompt's name": lambda f: change(f / ST, prompts={"query": "to end: ", "passage": "text: "}),
    "no prompt": lambda f: change(f / ST, prompts={"query": "to end: "}),
    "default prompt": lambda f: change(f / ST, default_prompt_name="document"),
    "no default prompt": lambda f: change(f / ST, default_prompt_name=None),
    "include_prompt": lambda f: change(f / "1_Pooling" / CONFIG, include_prompt=False),
    "truncate_dim": lambda f: change(f / ST, truncate_dim=3),
    "pooling": lambda f: change(f / "1_Pooling" / CONFIG, pooling_mode="weightedmean"),
    "Dense's activation": lambda f: change(f / "2_Dense" / CONFIG, activation_function="torch.nn.Identity"),
    "Dense's weight": lambda f: write_dense(f, 0.25001),
    "Dense's bias": lambda f: write_dense(f, 0.25, 0.001),
    "Normalize": lambda f: write(f / "modules.json", [TRANSFORMER, POOLING, DENSE]),
    "Normalize before Dense": lambda f: write(f / "modules.json", [TRANSFORMER, POOLING, NORMALIZE, DENSE]),
    "the limit": lambda f: change(f / "sentence_bert_config.json", max_seq_length=49),
    "no own limit": lambda f: change(f / "sentence_bert_config.json", max_seq_length=None),
}


def write_half(path):
    """The same numbers as F32 under a prefix, in another order."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    out, blob = {}, b""
    for name in sorted(header, reverse=True):
        a, b = header[name]["data_offsets"]
        out["bert." + name] = {**header[name], "data_offsets": [len(blob), len(blob) + b - a]}
        blob += data[8 + size + a : 8 + size + b]
    text = json.dumps(out).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


# What saving again without loss does.
KEPT = {
    "sharded": shard,
    "prefixed and reordered": lambda f: write_half(f / "model.safetensors"),
    "versions": lambda f: change(f / CONFIG, transformers_version="9.9", torch_dtype="float32", use_cache=False),
    "older pooling keys": lambda f: write(f / "1_Pooling" / CONFIG, {"pooling_mode_mean_tokens": True,
                                                                   "word_embedding_dimension": WIDTH}),
    "newer class names": lambda f: write(f / "modules.json", [
        {**TRANSFORMER, "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {**POOLING, "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}, DENSE, NORMALIZE]),
    "an empty prompt": lambda f: change(f / ST, prompts={"document": "text: ", "query": "to end: ", "none": ""}),
    "a README": lambda f: (f / "README.md").write_text("hello"),
    "activation's short name": lambda f: change(f / "2_Dense" / CONFIG, activation_function="torch.nn.Tanh"),
}


def test_the_embedding_space_changes_with_what_changes_a_vector(folder, tmp_path):
    full_folder(folder)
    before = space(folder)
    seen = {before: "nothing"}
    for name, mutate in MUTATIONS.items():
        copy = tmp_path / "mutated"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        mutate(copy)
        found = space(copy)
        assert found not in seen, f"{name} has the space of {seen[found]}"
        seen[found] = name
    assert space(folder, "--max-length", "20") not in seen
    assert space(folder, "--pooling", "cls") not in seen
    assert space(folder, "--precision", "int8", "--isa", "auto") == before


def test_the_embedding_space_stays_with_what_changes_no_vector(folder, tmp_path):
    full_folder(folder)
    before = space(folder)
    for name, rewrite in KEPT.items():
        copy = tmp_path / "kept"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        rewrite(copy)
        assert space(copy) == before, name


VECTOR_ROUTES = [("/embed", {"inputs": "a"}), ("/", {"inputs": "a"}), ("/v1/embeddings", {"input": "a"}),
                 ("/embeddings", {"input": "a"}), ("/analyze", {"inputs": "a"})]


@pytest.mark.parametrize(("path", "body"), VECTOR_ROUTES)
def test_if_embedding_space(server, path, body):
    whole = server.get("/info").json()["embedding_space"]["id"]
    reply = server.post(path, body)
    assert (reply.status, reply.header("X-Embedding-Space")) == (200, whole[:12])
    for asked in (whole, whole[:12], whole[:13].upper()):
        assert server.post(path, body, [("If-Embedding-Space", asked)]).status == 200
    other = ("0" if whole[0] != "0" else "1") + whole[1:]
    for asked in (other, other[:12], whole + "0", whole[:12] + other[0] * 52):
        reply = server.post(path, body, [("If-Embedding-Space", asked)])
        assert reply.status == 412, asked
        assert "precondition_failed" in reply.body.decode()
    for asked in (whole[:11], "", whole[:12] + "g", '"' + whole + '"', "*"):
        reply = server.post(path, body, [("If-Embedding-Space", asked)])
        assert reply.status == 400 and b"bad_header" in reply.body, asked


def test_if_embedding_space_elsewhere(server):
    for path, body in (("/classify", {"inputs": "a"}), ("/tokenize", {"inputs": "a"})):
        assert server.post(path, body, [("If-Embedding-Space", "0" * 12)]).status == 200


def embed_command(folder, *flags):
    done = subprocess.run([BIN, "embed", "--model", str(folder), "--no-normalize", "--precision", "fp32", *flags],
                          input=TEXT + "\n", capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout or "null") if done.returncode == 0 else (done.returncode, done.stderr)


def test_bulk_embed_follows_the_folder_as_the_route_does(start, folder):
    full_folder(folder)
    change(folder / "1_Pooling" / "config.json", include_prompt=False)
    server = start("--precision", "fp32", model=folder)
    assert near(embed_command(folder), embed(server))
    assert near(embed_command(folder, "--prompt-name", "document"), embed(server, prompt_name="document"))
    assert near(embed_command(folder, "--prompt-name", ""), embed(server, prompt_name=""))
    status, said = embed_command(folder, "--prompt-name", "absent")
    assert status == 2 and "query, document" in said
    out = folder / "out.npy"
    embed_command(folder, "--format", "npy", "-o", str(out))
    manifest = json.loads((folder / "out.npy.manifest.json").read_text())
    assert manifest["embedding_space"] == server.get("/info").json()["embedding_space"]["id"]


@pytest.mark.parametrize(("label", "said"), [("LABEL_1", "id2label: 1 is the same as 0"), ("a\tb", "id2label: 0 has a control character")])
def test_labels_that_no_answer_can_hold(tmp_path, label, said):
    """The message names the file that they come from."""
    folder = tmp_path / "labels"
    shutil.copytree(ROOT / "tests" / "data" / "models" / "seq-multilabel", folder)
    labels = json.loads((folder / "config.json").read_text())["id2label"]
    change(folder / "config.json", id2label={**labels, "0": label, "1": "LABEL_1"})
    assert f"config.json: {said}" in refused(folder)
