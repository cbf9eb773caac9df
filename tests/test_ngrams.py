"""The built-in text network: ids of n-grams, and runs with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refusals import parsed, refused

from htmaml_jax import adapt, cli, config, evaluate, limits, train
from htmaml_jax.data import draw, find, ngrams
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.errors import UserError
from htmaml_jax.nets.ngrams import BUCKETS, NgramBody
from htmaml_jax.outer.augment import Strengths, augment

WORDS = "wo ist meine karte 卡在 بطاقتي 😀".split()


@settings(max_examples=100, deadline=None)
@given(st.text())
@example("long" * 9)  # more than all the characters that 16 ids need
def test_ids_of_any_text(text):
    got = ngrams.ids(text)
    assert all(0 < i < BUCKETS for i in got)
    assert got == ngrams.ids(f"  {text.casefold()} ")
    made, cut = ngrams.inputs([text, ""], 16)
    assert made.shape == (2, 16) and made.dtype == np.int32
    assert made[0, : len(got)].tolist() == got[:16]
    padded, _ = ngrams.inputs([" " * 300 + text], 16)
    np.testing.assert_array_equal(padded[0], made[0])
    assert cut.tolist() == [len(got) > 16, False]
    assert not made[1].any()


def test_ids_are_those_of_words_and_their_parts():
    assert len(ngrams.ids("ab")) == 1 + 3 + 2 + 1  # <ab>; <a ab b>; ...
    assert ngrams.ids("ab cd") == ngrams.ids("ab") + ngrams.ids("cd")
    assert ngrams.ids("ＡＢ") == ngrams.ids("ab")  # compatible forms
    assert set(ngrams.ids("abcx")) & set(ngrams.ids("abcy"))
    # CRC-32 of "a", as published, taken modulo the number of buckets.
    assert ngrams._hashed("a") == 1 + 0xE8B7BE43 % (BUCKETS - 1)
    _, cut = ngrams.inputs(["wort " * 9000, "x" * 10_000], 400)
    assert cut.all()


def test_padding_and_order_change_nothing():
    body = NgramBody(BUCKETS, 16, 8, 1)
    texts = ["meine karte", "karte meine", "", "wo"]
    short, long = (ngrams.inputs(texts, n)[0] for n in (48, 90))
    params = body.init(jax.random.key(0), short)["params"]
    one, two = (body.apply({"params": params}, x) for x in (short, long))
    np.testing.assert_allclose(one, two, atol=1e-5)
    np.testing.assert_allclose(one[0], one[1], atol=1e-5)
    assert np.isfinite(one).all() and np.abs(one[0] - one[3]).max() > 0.1
    grads = jax.grad(
        lambda p: jnp.sum(body.apply({"params": p}, short)[:3, 0])
    )(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    np.testing.assert_array_equal(grads["table"]["embedding"][0], 0)


def test_windows_know_the_order_of_words():
    body = NgramBody(BUCKETS, 16, 8, 1, 16)
    read, bag = (
        jax.jit(lambda p, x, n=n: body.clone(context=n).apply({"params": p}, x))
        for n in (16, 0)
    )
    texts = ["wo ist meine karte jetzt", "karte jetzt wo ist meine", "", "wo"]
    short, long = (ngrams.inputs(texts, n)[0] for n in (83, 160))
    params = body.init(jax.random.key(0), short)["params"]
    plain = {k: x for k, x in params.items() if k != "windows"}
    np.testing.assert_allclose(
        read(params, short), bag(plain, short), atol=1e-6
    )
    back = params["windows"]["dense_back"]
    back["kernel"] = jax.random.normal(jax.random.key(1), (8, 16))
    one, two = (read(params, x) for x in (short, long))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert np.abs(one[0] - one[1]).max() > 0.01
    # No text says nothing, and what is behind a text is no part of it.
    np.testing.assert_allclose(one[2], bag(plain, short)[2], atol=1e-6)
    near, far = (ngrams.inputs(["wo"], n)[0] for n in (16, 160))
    one, two = (read(params, x) for x in (near, far))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert np.abs(one - bag(plain, near)).max() > 0.01
    # Windows are read with their neighbours.
    row = jnp.arange(1, 65)[None]
    moved = jnp.concatenate([row[:, 16:32], row[:, :16], row[:, 32:]], axis=1)
    one, two = (read(params, x) for x in (row, moved))
    assert np.abs(one - two).max() > 0.01
    grads = jax.grad(lambda p: jnp.sum(read(p, short)[:, 0]))(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert np.abs(grads["windows"]["dense"]["kernel"]).max() > 0


def test_leaving_n_grams_out():
    ids = jnp.arange(1, 401, dtype=jnp.int32).reshape(4, 100)
    side = Batch(ids, jnp.arange(4), jnp.ones(4))
    episode = Episode(side, side, np.int32(0), np.int32(0))
    got = augment(episode, jax.random.key(3), 4, Strengths(drop=0.8))
    for new in (got.support.inputs, got.query.inputs):
        kept = np.asarray(new) > 0
        assert new.dtype == jnp.int32
        np.testing.assert_array_equal(np.asarray(new)[kept], ids[kept])
        assert len({row.tobytes() for row in kept}) == 4  # each on its own
        assert 0.2 < kept.mean() < 0.95
    same = augment(episode, jax.random.key(3), 4, Strengths())
    np.testing.assert_array_equal(same.support.inputs, ids)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Twenty classes, each a pair of words in many scripts."""
    path = tmp_path_factory.mktemp("own") / "mine.tsv"
    pairs = [(a, b) for a in WORDS for b in WORDS if a < b][:20]
    lines = ["label\ttext"]
    for i, (a, b) in enumerate(pairs):
        lines += [f"class {i}\t{a} {b} nr {n}" for n in range(6)]
    path.write_text("\n".join(lines), "utf-8")
    return path


def arguments(own, workdir, **more):
    fields = {
        **tiny.UNCHANGED,
        "train.steps": 6,
        "data.name": "texts",
        "data.encoder": "ngrams",
        "data.size": 64,
        "net.kind": "ngrams",
        "hyper.head": "prototype",
        "hyper.rules": '(("body/.*norm.*", "affine"), ("head/.*", "rows"))',
        "inner.over": "(?!body/(table|weights)).*",
        "outer.augment.drop": 0.3,
        "system": "htmaml",
        **more,
    }
    return tiny.arguments(own, workdir, **fields)


def test_both_loaders_bring_the_same_ids(own):
    data = config.default().data
    data.update(name="texts", dir=str(own), size=64)
    table, shape = find.load(data), draw.Shape(3, 1, 2, 3, 1)
    one, two = (
        find.source(table, shape, "train", 0, loader)
        for loader in ("device", "tfdata")
    )
    pieces = [next(source.pieces(0, 4)) for source in (one, two)]
    got = [
        jax.jit(source.episodes)(source.shared, piece)
        for source, piece in zip((one, two), pieces, strict=True)
    ]
    for episode in got:
        assert episode.support.inputs.dtype == np.int32
    jax.tree.map(np.testing.assert_array_equal, *got)
    assert got[0].query.inputs.shape == (4, 6, 64)


@pytest.mark.slow
def test_a_run_through_the_doors(own, tmp_path):
    workdir = tmp_path / "run"
    train.main(arguments(own, workdir))
    found = evaluate.evaluate(workdir)
    assert found["data"]["front_end"] == {
        "encoder": "ngrams",
        "length": 64,
        "stamp": "ngrams",
        "cut": 0,
    }
    assert found["mean"] > 0.6  # chance is a third, and words tell classes
    # The table is no part of what the inner loop learns rates for.
    _, meta, _ = evaluate.restore(workdir)
    assert set(meta["inner"]["alpha"]["body"]) == {"vector"}
    model = adapt.load(workdir)
    few = {"card": ["卡在 wo", "卡在 ist"], "where": ["بطاقتي"]}
    guesses = model.adapt(few).predict(["卡在", "بطاقتي", "", "x" * 10_000])
    assert [g.name for g in guesses][:2] == ["card", "where"]
    assert all(np.isfinite(g.probability) for g in guesses)


@pytest.mark.slow
def test_windows_through_the_doors(own, tmp_path):
    """Of another size they are another network, of the same shapes."""
    fields = {"net.context": 16, "train.steps": 2}
    train.main(arguments(own, tmp_path / "run", **fields))
    _, meta, _ = evaluate.restore(tmp_path / "run")
    assert set(meta["inner"]["alpha"]["body"]) == {"vector", "windows"}
    fields |= {"net.pretrained": tmp_path / "run", "net.context": 8}
    with pytest.raises(UserError, match="another network .*context=16"):
        train.main(arguments(own, tmp_path / "other", **fields))


def test_the_config_knows_both_encoders():
    found, _ = cli.read_config(
        "configs/intent.py:system=maml,data.encoder=ngrams", []
    )
    assert (found.net.kind, found.data.size) == ("ngrams", 160)
    assert "table" in found.inner.over
    found, _ = cli.read_config("configs/intent.py:system=anil", [])
    assert (found.net.kind, found.inner.over) == ("vector", "head/.*")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data.name=liu", ("needs net.kind=ngrams",)),
        (
            "data.name=liu,net.kind=ngrams,outer.augment.noise=0.1",
            ("only drop",),
        ),
        ("pretrain.drop=0.1", ("pretrain.drop is for n-grams",)),
    ],
)
def test_configs_that_cannot_work(text, words):
    refused(lambda: limits.check(parsed(text)), *words)
