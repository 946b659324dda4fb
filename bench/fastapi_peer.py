"""The server that one would write in an afternoon: FastAPI and sentence-transformers. A peer of bench/servers.py.

  V/bin/pip install fastapi uvicorn sentence-transformers
  MODEL=MODEL_DIR V/bin/uvicorn --app-dir bench fastapi_peer:app --port 8083 --log-level warning
"""
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from sentence_transformers import SentenceTransformer, models  # noqa: E402

torch.set_num_threads(len(os.sched_getaffinity(0)))
words = models.Transformer(os.environ["MODEL"], max_seq_length=128)
encoder = SentenceTransformer(modules=[words, models.Pooling(words.get_word_embedding_dimension(), "mean"),
                                       models.Normalize()], device="cpu")
app = FastAPI()


class Body(BaseModel):
    inputs: str | list[str]


# Not async: FastAPI then runs it on its pool of threads, and the event loop stays free.
@app.post("/embed")
def embed(body: Body):
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    return encoder.encode(texts, show_progress_bar=False).tolist()


@app.get("/health")
def health():
    return {}
