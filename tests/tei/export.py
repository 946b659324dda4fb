#!/usr/bin/env python3
"""Model folders as text-embeddings-inference's ONNX backend reads them: a copy with onnx/model.onnx in it.

usage: export.py OUTPUT_DIR FOLDER…     (needs torch, transformers, onnx)
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers


class Wrapped(torch.nn.Module):
    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        return self.model(**dict(zip(self.names, inputs)))[0]


def export(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    classes = {"ForSequenceClassification": transformers.AutoModelForSequenceClassification}
    architecture = config["architectures"][0]
    loader = next((c for end, c in classes.items() if architecture.endswith(end)), transformers.AutoModel)
    model = loader.from_pretrained(source, attn_implementation="eager", torch_dtype=torch.float32).eval()
    names = ["input_ids", "attention_mask"]
    if config["model_type"] == "bert":
        names.append("token_type_ids")
    if "hidden_size" not in config:  # its ONNX backend asks for the name that DistilBERT doesn't use
        config |= {"hidden_size": config["dim"], "num_hidden_layers": config["n_layers"]}
        (target / "config.json").write_text(json.dumps(config))
    ids = torch.randint(5, 50, (2, 16))
    inputs = tuple(torch.zeros_like(ids) if name == "token_type_ids" else torch.ones_like(ids) for name in names[1:])
    output = "logits" if loader is not transformers.AutoModel else "last_hidden_state"
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "last_hidden_state"]} | {"logits": {0: "texts"}}
    (target / "onnx").mkdir(exist_ok=True)
    torch.onnx.export(Wrapped(model, names), (ids, *inputs), target / "onnx" / "model.onnx", input_names=names,
                      output_names=[output], opset_version=17, dynamo=False,
                      dynamic_axes={name: axes[name] for name in [*names, output]})


def main():
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for folder in map(pathlib.Path, sys.argv[2:]):
        export(folder, pathlib.Path(sys.argv[1], folder.name))
        print(folder.name)


if __name__ == "__main__":
    main()
