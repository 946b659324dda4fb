"""Real clients, pointed at orthrus and otherwise left as they are."""
import asyncio
import json
import math
import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import Server

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = ["hello world", "the old river", "a \"quoted\" text, ünïcödé and 東京"]
HIDDEN = 32
FULL = os.environ.get("ORTHRUS_FULL", "0") == "1"
# Pinned; with ORTHRUS_FULL=1 the newest release too.
NODE_OPENAI = ["openai@7.57.0", *(["openai@latest"] if FULL else [])]
NODE_HUGGING_FACE = ["@huggingface/inference@4.13.30", *(["@huggingface/inference@latest"] if FULL else [])]


@pytest.fixture(scope="module")
def url(server):
    return f"http://{server.address}"


@pytest.fixture(scope="module")
def vectors(server):
    """What /embed itself answers."""
    return server.post("/embed", {"inputs": TEXTS}).json()


def same(left, right):
    return all(math.isclose(a, b, abs_tol=1e-7) for x, y in zip(left, right, strict=True)
               for a, b in zip(x, y, strict=True))


# -- OpenAI -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def openai_client(url):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_openai_embeddings(openai_client, vectors):
    # By default this client asks for base64.
    packed = openai_client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    plain = openai_client.embeddings.create(model="any", input=TEXTS, encoding_format="float", user="me")
    assert [d.index for d in packed.data] == [0, 1, 2]
    assert same([d.embedding for d in packed.data], vectors)
    assert same([d.embedding for d in plain.data], vectors)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0


def test_openai_dimensions_are_sliced_then_normalized(openai_client, vectors):
    short = openai_client.embeddings.create(model="any", input=TEXTS[0], dimensions=8)
    head = vectors[0][:8]
    norm = math.sqrt(sum(x * x for x in head))
    assert same([short.data[0].embedding], [[x / norm for x in head]])


def test_openai_token_ids(openai_client, server):
    tokens = server.post("/tokenize", {"inputs": TEXTS[0]}).json()[0]
    by_ids = openai_client.embeddings.create(model="any", input=[[t["id"] for t in tokens]])
    by_text = openai_client.embeddings.create(model="any", input=TEXTS[0])
    assert same([by_ids.data[0].embedding], [by_text.data[0].embedding])


def test_openai_errors_are_its_own_exceptions(openai_client):
    import openai
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.embeddings.create(model="any", input="")
    assert caught.value.type == "invalid_request_error" and caught.value.param == "input"
    with pytest.raises(openai.BadRequestError):
        openai_client.embeddings.create(model="any", input=[[99999999]])
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("another-model")


def test_openai_models(openai_client):
    names = [m.id for m in openai_client.models.list()]
    assert names == ["tiny-bert"]
    assert openai_client.models.retrieve(names[0]).id == names[0]


def test_openai_api_key(start, key_file):
    openai = pytest.importorskip("openai")
    from conftest import KEY
    guarded = start("--api-key-file", key_file)
    base = f"http://{guarded.address}/v1"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=base, api_key="wrong" * 10, max_retries=0).embeddings.create(model="m", input="x")
    good = openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)
    assert len(good.embeddings.create(model="m", input="x").data) == 1


def test_openai_async_many_at_once(url, vectors):
    openai = pytest.importorskip("openai")

    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(client.embeddings.create(model="m", input=TEXTS[0])
                                          for _ in range(64)))

    for answer in asyncio.run(all_at_once()):
        assert same([answer.data[0].embedding], vectors[:1])


def node_folder(tmp_path_factory, package, program):
    """A folder with the package and the program beside it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node.js with npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}')
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", package], cwd=folder,
                          capture_output=True)
    if done.returncode:
        pytest.skip(f"npm could not install {package}")
    shutil.copy(HERE / program, folder)
    return folder


@pytest.fixture(scope="module", params=NODE_OPENAI)
def node_modules(request, tmp_path_factory):
    return node_folder(tmp_path_factory, request.param, "openai.mjs")


@pytest.fixture(scope="module", params=NODE_HUGGING_FACE)
def hugging_face_modules(request, tmp_path_factory):
    return node_folder(tmp_path_factory, request.param, "huggingface.mjs")


def test_hugging_face_for_node(url, server, hugging_face_modules):
    run = subprocess.run(["node", "huggingface.mjs"], cwd=hugging_face_modules, capture_output=True, timeout=60,
                         env={**os.environ, "URL": url})
    assert run.returncode == 0, run.stderr.decode()
    got = json.loads(run.stdout)
    expected = server.post("/classify", {"inputs": "hello world"}).json()
    assert [entry["label"] for entry in got["labels"]] == [entry["label"] for entry in expected]
    assert len(got["best"]) == 1
    assert same(got["vector"] if isinstance(got["vector"][0], list) else [got["vector"]],
                server.post("/embed", {"inputs": "hello world"}).json())


def test_openai_for_node(url, server, node_modules):
    run = subprocess.run(["node", "openai.mjs"], cwd=node_modules, capture_output=True, timeout=60,
                         env={**os.environ, "BASE_URL": f"{url}/v1", "KEY": "none"})
    assert run.returncode == 0, run.stderr.decode()
    got = json.loads(run.stdout)
    expected = server.post("/embed", {"inputs": ["hello world", "the old river"]}).json()
    assert same(got["plain"], expected) and same(got["packed"], expected)
    assert got["usage"]["total_tokens"] > 0
    assert got["refused"] == {"name": "BadRequestError", "status": 400, "type": "invalid_request_error"}
    assert got["models"] == ["tiny-bert"]


# -- Hugging Face -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub_client(url):
    hub = pytest.importorskip("huggingface_hub")
    return hub.InferenceClient(model=url)


def test_hub_feature_extraction_posts_to_the_bare_url(hub_client, vectors):
    answer = hub_client.feature_extraction(TEXTS[0], normalize=True, truncate=True, truncation_direction="right")
    assert answer.shape == (1, HIDDEN) and same(answer.tolist(), vectors[:1])
    many = hub_client.feature_extraction(TEXTS)
    assert same(many.tolist(), vectors)


def test_hub_text_classification(url, server):
    hub = pytest.importorskip("huggingface_hub")
    for route in ["classify", "sentiment"]:
        client = hub.InferenceClient(model=f"{url}/{route}")
        answer = client.text_classification(TEXTS[0])
        expected = server.post(f"/{route}", {"inputs": TEXTS[0]}).json()
        assert [a.label for a in answer] == [e["label"] for e in expected]
        assert all(math.isclose(a.score, e["score"], rel_tol=1e-6) for a, e in zip(answer, expected))
        assert len(client.text_classification(TEXTS[0], top_k=2)) == 2
        raw = client.text_classification(TEXTS[0], function_to_apply="none")
        assert not math.isclose(sum(a.score for a in raw), 1, abs_tol=1e-3)


def test_hub_errors_carry_our_text(hub_client):
    from huggingface_hub.errors import HfHubHTTPError
    with pytest.raises(HfHubHTTPError) as caught:
        hub_client.feature_extraction(TEXTS[0], prompt_name="query")
    assert caught.value.response.status_code == 422
    assert caught.value.response.json()["param"] == "prompt_name"


# -- frameworks -------------------------------------------------------------------------------


def test_langchain_openai(url, vectors):
    langchain = pytest.importorskip("langchain_openai")
    # Its default, check_embedding_ctx_length=True, sends ids of OpenAI's own vocabulary.
    client = langchain.OpenAIEmbeddings(base_url=f"{url}/v1", api_key="none", model="any",
                                        check_embedding_ctx_length=False)
    assert same(client.embed_documents(TEXTS), vectors)
    assert same([client.embed_query(TEXTS[0])], vectors[:1])


def test_langchain_huggingface(url, vectors):
    langchain = pytest.importorskip("langchain_huggingface")
    from huggingface_hub import InferenceClient
    try:
        client = langchain.HuggingFaceEndpointEmbeddings(model=url)
    except ValueError:  # 1.2.3 takes no URL here
        client = langchain.HuggingFaceEndpointEmbeddings(model="any/model", huggingfacehub_api_token="none")
        client.client = InferenceClient(model=url)
    assert same(client.embed_documents(TEXTS), vectors)
    assert same([client.embed_query(TEXTS[0])], vectors[:1])


def test_haystack(url, vectors):
    haystack = pytest.importorskip("haystack_integrations.components.embedders.huggingface_api")
    from haystack import Document
    # Its own default is normalize=False, which it sends.
    options = {"api_type": "text_embeddings_inference", "api_params": {"url": url}, "token": None, "normalize": True}
    text = haystack.HuggingFaceAPITextEmbedder(**options)
    assert same([text.run(TEXTS[0])["embedding"]], vectors[:1])
    documents = haystack.HuggingFaceAPIDocumentEmbedder(progress_bar=False, **options)
    answer = documents.run([Document(content=t) for t in TEXTS])["documents"]
    assert same([d.embedding for d in answer], vectors)


def test_llama_index(url, vectors):
    tei = pytest.importorskip("llama_index.embeddings.text_embeddings_inference")
    client = tei.TextEmbeddingsInference(model_name="any", base_url=url, text_instruction="", query_instruction="")
    assert same(client.get_text_embedding_batch(TEXTS), vectors)
    assert same([client.get_query_embedding(TEXTS[0])], vectors[:1])
    assert same([asyncio.run(client.aget_query_embedding(TEXTS[0]))], vectors[:1])


# -- rankers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranker():
    """A folder whose head is one score: a cross-encoder."""
    running = Server("--drain-timeout-s", "4", model=HERE.parent / "data" / "models" / "seq-score")
    yield running
    running.stop()


def ranked(ranker, query, raw=False):
    answer = ranker.post("/rerank", {"query": query, "texts": TEXTS, "raw_scores": raw}).json()
    return [(TEXTS[rank["index"]], rank["score"]) for rank in answer]


def test_haystack_ranker(ranker):
    rankers = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api")
    from haystack import Document
    documents = [Document(content=text) for text in TEXTS]
    for raw in (False, True):
        client = rankers.HuggingFaceTEIRanker(url=f"http://{ranker.address}", raw_scores=raw, token=None)
        answer = client.run(query="the end of it", documents=documents)["documents"]
        assert [(d.content, d.score) for d in answer] == ranked(ranker, "the end of it", raw)
        assert len(client.run(query="the end", documents=documents, top_k=2)["documents"]) == 2


def test_llama_index_rerank(ranker):
    rerank = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    from llama_index.core.schema import NodeWithScore, TextNode
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    client = rerank.TextEmbeddingInference(base_url=f"http://{ranker.address}", top_n=2)
    answer = client.postprocess_nodes(nodes, query_str="the end of it")
    assert [(n.node.text, n.score) for n in answer] == ranked(ranker, "the end of it")[:2]


# -- curl -------------------------------------------------------------------------------------


def curl(*args):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    return subprocess.run(["curl", "-sS", *args], capture_output=True, timeout=60)


def test_curl(url, vectors):
    body = json.dumps({"inputs": TEXTS})
    done = curl(f"{url}/embed", "-H", "Content-Type: application/json", "-d", body)
    assert done.returncode == 0 and same(json.loads(done.stdout), vectors)


def test_curl_without_its_header_is_told_which_one(url):
    done = curl(f"{url}/embed", "-d", '{"inputs": "x"}')
    assert "-H 'Content-Type: application/json'" in json.loads(done.stdout)["error"]


def test_curl_upload_that_is_too_large_reads_its_413(url, tmp_path):
    big = tmp_path / "big.json"
    big.write_bytes(b'{"inputs": "' + b"a" * (63 << 20) + b'"}')
    for expect in ["Expect:", "Expect: 100-continue"]:
        done = curl("-w", "%{http_code}", f"{url}/embed", "-H", "Content-Type: application/json", "-H", expect,
                    "--data-binary", f"@{big}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(b"413") and b"body_too_large" in done.stdout
