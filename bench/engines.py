"""The engines of bench/peers.py, each in the shape that it is fastest in: batches of one length where it pads, one
single-threaded stream a CPU where it has streams, all CPUs on one text for latency.

An engine has `batch`, its best number of sentences, and two calls: many(batches of token ids) → mean-pooled vectors in
order, and one(ids) → one vector."""
import concurrent.futures
import os
import pathlib
import queue

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before it is loaded: ONNX Runtime reports its use otherwise

NAMES = ["torch", "torch-bf16", "ort", "ort-int8", "openvino", "openvino-bf16", "ctranslate2", "ctranslate2-int8"]


def padded(batch):
    """ids and mask [N, longest]."""
    ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


def mean_pooled(hidden, mask):
    weight = mask[:, :, None].astype(np.float32)
    return (np.asarray(hidden, np.float32) * weight).sum(axis=1) / weight.sum(axis=1)


def inputs(batch):
    ids, mask = padded(batch)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}, mask


class Streams:
    """One worker a stream; batches are taken as streams come free."""

    def __init__(self, streams):
        self.free = queue.SimpleQueue()
        for stream in streams:
            self.free.put(stream)
        self.pool = concurrent.futures.ThreadPoolExecutor(len(streams))

    def map(self, function, batches):
        def task(batch):
            stream = self.free.get()
            try:
                return function(stream, batch)
            finally:
                self.free.put(stream)

        return list(self.pool.map(task, batches))


class Torch:
    batch = 32

    def __init__(self, model, work, threads, kind):
        import torch
        from transformers import BertModel

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = BertModel.from_pretrained(model, add_pooling_layer=False).eval()
        if kind == "bf16":
            self.model = self.model.to(torch.bfloat16)

    def one(self, ids):
        return self.many([[ids]])[0]

    def many(self, batches):
        out = []
        with self.torch.inference_mode():
            for batch in batches:
                feed, mask = inputs(batch)
                hidden = self.model(**{name: self.torch.from_numpy(x) for name, x in feed.items()})[0]
                out.append(mean_pooled(hidden.float().numpy(), mask))
        return np.concatenate(out)


class OnnxRuntime:
    batch = 8

    def __init__(self, model, work, threads, kind):
        import onnxruntime

        path = str(quantized_onnx(model, work) if kind == "int8" else fused_onnx(model, work))

        def session(width):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = width
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        self.wide = session(threads)
        self.streams = Streams([session(1) for _ in range(threads)])
        self.types = {i.name: np.int32 if "int32" in i.type else np.int64 for i in self.wide.get_inputs()}

    def run(self, session, batch):
        feed, mask = inputs(batch)
        feed = {name: feed[name].astype(kind) for name, kind in self.types.items()}
        return mean_pooled(session.run(None, feed)[0], mask)

    def one(self, ids):
        return self.run(self.wide, [ids])[0]

    def many(self, batches):
        return np.concatenate(self.streams.map(self.run, batches))


class OpenVino:
    batch = 32

    def __init__(self, model, work, threads, kind):
        import openvino

        core = openvino.Core()
        graph = core.read_model(plain_onnx(model, work))
        common = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32"}
        latency = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        throughput = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": threads}
        self.wide = core.compile_model(graph, "CPU", {**common, **latency}).create_infer_request()
        streams = core.compile_model(graph, "CPU", {**common, **throughput})
        self.streams = Streams([streams.create_infer_request() for _ in range(threads)])

    def run(self, request, batch):
        feed, mask = inputs(batch)
        return mean_pooled(request.infer(feed)[0], mask)

    def one(self, ids):
        return self.run(self.wide, [ids])[0]

    def many(self, batches):
        return np.concatenate(self.streams.map(self.run, batches))


class CTranslate2:
    batch = 32

    def __init__(self, model, work, threads, kind):
        import ctranslate2

        path, kind = converted_ctranslate2(model, work), kind or "float32"
        self.wide = ctranslate2.Encoder(path, compute_type=kind, inter_threads=1, intra_threads=threads)
        many = ctranslate2.Encoder(path, compute_type=kind, inter_threads=threads, intra_threads=1)
        self.streams = Streams([many] * threads)

    def run(self, encoder, batch):
        return mean_pooled(np.array(encoder.forward_batch(batch).last_hidden_state), padded(batch)[1])

    def one(self, ids):
        return self.run(self.wide, [ids])[0]

    def many(self, batches):
        return np.concatenate(self.streams.map(self.run, batches))


def create(name, model, work, threads):
    kinds = {"torch": Torch, "ort": OnnxRuntime, "openvino": OpenVino, "ctranslate2": CTranslate2}
    family, _, kind = name.partition("-")
    return kinds[family](str(model), pathlib.Path(work), threads, kind)


def plain_onnx(model, work):
    """The encoder as PyTorch exports it; made once in the work folder, as all that follows."""
    path = work / "bert.onnx"
    if not path.exists():
        import torch
        from transformers import BertModel

        encoder = BertModel.from_pretrained(model, add_pooling_layer=False, attn_implementation="eager").eval()

        class Hidden(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = encoder

            def forward(self, ids, mask, types):
                return self.encoder(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]

        example = torch.full((2, 8), 1000)
        names = ["input_ids", "attention_mask", "token_type_ids"]
        axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "hidden"]}
        torch.onnx.export(Hidden(), (example, torch.ones_like(example), torch.zeros_like(example)), str(path),
                          input_names=names, output_names=["hidden"], dynamic_axes=axes, opset_version=17,
                          dynamo=False)
    return path


def fused_onnx(model, work):
    path = work / "fused.onnx"
    if not path.exists():
        from onnxruntime.transformers import optimizer
        from transformers import BertConfig

        config = BertConfig.from_pretrained(model)
        fused = optimizer.optimize_model(str(plain_onnx(model, work)), model_type="bert", opt_level=1,
                                         num_heads=config.num_attention_heads, hidden_size=config.hidden_size)
        fused.save_model_to_file(str(path))
    return path


def quantized_onnx(model, work):
    """ONNX Runtime's dynamic int8, with a scale for each output channel: its most accurate kind without data."""
    path = work / "int8.onnx"
    if not path.exists():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(str(fused_onnx(model, work)), str(path), per_channel=True, weight_type=QuantType.QInt8,
                         op_types_to_quantize=["MatMul", "Attention"],
                         extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
    return path


def converted_ctranslate2(model, work):
    path = work / "ct2"
    if not (path / "model.bin").exists():
        import transformers
        from ctranslate2.converters import TransformersConverter

        # Newer configurations no longer say what all BERT models have.
        transformers.BertConfig.position_embedding_type = "absolute"
        TransformersConverter(model).convert(str(path), force=True)
    return str(path)
