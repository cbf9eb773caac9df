"""Pre-training of the n-gram network on texts, and training from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from refusals import parsed, refused
from small import fields_of
from test_ngrams import arguments

from htmaml_jax import evaluate, pretrain, starts, train
from htmaml_jax.outer.augment import Strengths
from htmaml_jax.outer.views import Views, view, view_loss
from htmaml_jax.run import checkpoints

FIELDS = {
    "system": "protonet",
    "hyper.rules": "()",
    "pretrain.steps": 40,
    "pretrain.batch": 64,
    "pretrain.crop": 0.5,
    "pretrain.rate": 3e-3,
    "train.steps": 1,
}


def run_of(own, workdir, **more):
    fields = FIELDS | {k.replace("__", "."): v for k, v in more.items()}
    return arguments(own, workdir, **fields)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Fifty classes: two words of each, twice, among words of no class."""
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = ["".join(rng.choice(letters, 5)) for _ in range(104)]
    lines = ["label\ttext"]
    for label in range(50):
        mine = words[2 * label : 2 * label + 2] * 2
        for _ in range(4):
            text = [*mine, *rng.choice(words[100:], 12)]
            lines.append(f"class {label}\t{' '.join(rng.permutation(text))}")
    path = tmp_path_factory.mktemp("own") / "mine.tsv"
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def encoder(own, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "encoder"
    pretrain.main(run_of(own, workdir))
    return workdir


@pytest.mark.slow
def test_the_loss_falls_and_scores_rise(encoder):
    """Words of no class lose weight, also in texts of other classes."""
    scores = checkpoints.Checkpoints(encoder).info("latest")["scores"]
    before, after = (scores[x]["nearest"] for x in ("before", "after"))
    assert after > before + 0.02
    lines = (encoder / "metrics.jsonl").read_text().splitlines()
    first, last = (float(x.split(": ")[-1].strip("}")) for x in lines)
    assert last < first - 0.3


@pytest.mark.slow
def test_training_starts_from_it(encoder, own, tmp_path):
    workdir = tmp_path / "frozen"
    start = {"net__pretrained": encoder, "outer__frozen": ".*"}
    train.main(run_of(own, workdir, **start))
    _, meta, _ = evaluate.restore(workdir, "latest")
    body = meta["base"]["body"]
    old = checkpoints.Checkpoints(encoder).meta("latest", {"body": body})
    jax.tree.map(np.testing.assert_array_equal, body, old["body"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"data__size": 32}, ("data.size=64", "this run 32")),
        ({"net__width": 16}, ("net.width=8", "this run 16")),
    ],
)
def test_other_networks_are_refused(encoder, own, tmp_path, more, words):
    fields = run_of(own, tmp_path / "x", net__pretrained=encoder, **more)
    refused(lambda: train.main(fields), *words)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_what_has_met_classes_or_texts_is_refused(encoder):
    info = checkpoints.Checkpoints(encoder).info("latest")
    config = parsed("data.name=texts,data.size=64,net.kind=ngrams,net.width=8")
    config.net.pretrained = str(encoder)
    config.net.blocks = 2
    splits = {"test": info["data"]["splits"]["train"][:2]}
    refused(lambda: starts.met(config, splits), "has met 2")
    # An encoder of texts is no task encoder of sounds.
    config.embed.pretrained = str(encoder)
    meta = {"base": {"body": {}}, "embed": {"body": {}}}
    refused(lambda: starts.encoder(meta, config), "not of pictures", "as net.")


def test_two_collections_with_the_same_texts(monkeypatch, tmp_path):
    data = {"splits": {}}
    said = {"config": {"data": {"name": "liu"}}, "data": data, "scores": {}}
    monkeypatch.setattr(checkpoints.Checkpoints, "info", lambda *_: said)
    config = parsed("data.name=hwu64")
    config.net.pretrained = str(tmp_path)
    refused(lambda: starts.met(config, {}), "shares texts with hwu64")
    # Nor what began from what has met them.
    data["met"] = [{"name": "liu", "train": []}]
    said["config"]["data"]["name"] = "banking77"
    refused(lambda: starts.met(config, {}), "shares texts with hwu64")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            parsed("data.name=liu,data.encoder=x"),
            "the vectors of data.name=liu",
        ),
        (fields_of("maml", True), "the functions of"),
    ],
)
def test_what_is_not_pre_trained(fields, words, tmp_path):
    refused(lambda: pretrain.pretrain(fields, tmp_path / "x"), words)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_an_encoder_of_sounds_is_no_network_of_texts(encoder, own, tmp_path):
    """The other way round, through the door."""
    clips = tiny.write_clips(tmp_path / "clips")
    sounds = tmp_path / "sounds"
    few = {"pretrain.steps": 1, "embed.body": "own", "system": "htmaml"}
    pretrain.main(tiny.arguments(clips, sounds, **few))
    fields = run_of(own, tmp_path / "x", net__pretrained=sounds)
    refused(lambda: train.main(fields), "not of ngrams", "as embed.pretrained")


def test_views_are_stretches_of_their_text():
    ids = np.zeros((4, 12), np.int32)
    for i, length in enumerate((12, 7, 1, 0)):
        ids[i, :length] = np.arange(1, length + 1)
    keys = jax.random.split(jax.random.key(0), 20)
    for key in keys:
        got = np.asarray(view(jnp.asarray(ids), key, Views(0.5, Strengths())))
        kept = [row[row > 0] for row in got]
        assert [len(row) for row in kept] == [6, 4, 1, 0]
        assert all((np.diff(row) == 1).all() for row in kept)
    part = view(jnp.asarray(ids), keys[0], Views(1.0, Strengths(drop=0.9)))
    assert ((np.asarray(part) == ids) | (part == 0)).all()
    assert 0 < (np.asarray(part) > 0).sum() < (ids > 0).sum()


def test_texts_of_one_group_do_not_repel():
    """A third text that says the same changes nothing for the others."""

    class Unit:
        @staticmethod
        def apply(_, inputs):
            return jax.nn.one_hot(inputs[:, 0], 8)

    def loss(inputs, groups):
        inputs = jnp.asarray(inputs, jnp.int32)[:, None]
        drawn = inputs, inputs, jnp.asarray(groups)
        views = Views(1.0, Strengths())
        return view_loss(Unit, {}, drawn, jax.random.key(0), views, 1.0)

    alone, alike = loss([1, 2], [0, 1]), loss([1, 1, 2], [0, 0, 1])
    apart = loss([1, 1, 2], [0, 2, 1])
    assert alone < alike < apart
