"""Pre-training of the task encoder, and training from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from refusals import refused
from small import fields_of

from htmaml_jax import evaluate, pretrain, starts, train
from htmaml_jax.config import default
from htmaml_jax.data import sources
from htmaml_jax.outer.augment import Strengths
from htmaml_jax.outer.views import Views, pair, view
from htmaml_jax.run import checkpoints, pretraining

FIELDS = {
    "system": "htmaml",
    "pretrain.steps": 30,
    "pretrain.batch": 24,
    "embed.body": "own",
    "train.steps": 2,
    # All updates are of tasks, which alone teach an encoder.
    "outer.joint_until": 0.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"))


def arguments(data, workdir, **more):
    fields = {**FIELDS, **{k.replace("__", "."): v for k, v in more.items()}}
    return tiny.arguments(data, workdir, **fields)


@pytest.fixture(scope="module")
def encoder(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "encoder"
    pretrain.main(arguments(data, workdir))
    return workdir


def body_of(workdir, *path):
    _, meta, _ = evaluate.restore(workdir, "latest")
    for name in path:
        meta = meta[name]
    return meta


def test_the_loss_falls_and_scores_are_recorded(encoder):
    info = checkpoints.Checkpoints(encoder).info("latest")
    scores = info["scores"]
    for when in ("before", "after"):
        assert set(scores[when]) == {"nearest", "linear"}
        assert all(0 < x <= 1 for x in scores[when].values())
    lines = (encoder / "metrics.jsonl").read_text().splitlines()
    first, last = (float(x.split(": ")[-1].strip("}")) for x in lines)
    assert last < first
    assert "htmaml_jax.pretrain" in info["command"]


@pytest.mark.slow
def test_training_starts_from_it(encoder, data, tmp_path):
    """Frozen, the encoder is as pre-trained; else it moves from there."""
    kept = checkpoints.Checkpoints(encoder)
    frozen, moved = tmp_path / "frozen", tmp_path / "moved"
    started = {"embed__pretrained": encoder}
    train.main(
        arguments(data, frozen, outer__frozen="embed/body/.*", **started)
    )
    body = body_of(frozen, "embed", "body")
    old = kept.meta("latest", {"body": body})["body"]
    jax.tree.map(np.testing.assert_array_equal, body, old)
    train.main(arguments(data, moved, train__steps=4, **started))
    apart = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()),
        body_of(moved, "embed", "body"),
        old,
    )
    moves = jax.tree.leaves(apart)
    # Four updates of 1e-3 at most, so it cannot have begun elsewhere.
    assert 0 < max(moves) < 0.01


@pytest.mark.slow
def test_what_cannot_be_started_from(encoder, data, tmp_path):
    def start(**more):
        more = {"embed__pretrained": encoder, **more}
        train.main(arguments(data, tmp_path / "run", **more))

    refused(lambda: start(embed__pretrained=data), "latest")
    refused(lambda: start(embed__pretrained=tmp_path / "no"), "is not a folder")
    refused(lambda: start(embed__width=16), "embed.width=8", "16")
    known = checkpoints.Checkpoints(encoder).info("latest")["data"]["splits"]
    config = default()
    config.embed.pretrained = str(encoder)
    held_out = {"test": known["train"][:1]}
    refused(lambda: starts.met(config, held_out), "has met 1")
    assert not (tmp_path / "run").exists()
    for door in (pretrain, train):
        refused(
            lambda door=door: door.main(arguments(data, encoder)),
            "use another --workdir",
        )
    functions = fields_of("maml", True)
    refused(
        lambda: pretrain.pretrain(functions, tmp_path / "x"),
        "functions of data.name=regression6-0-5 are not",
    )


def test_several_domains_are_not_pretrained_on_together(data, tmp_path):
    parts = 'joint.parts=(("a", "configs/asc.py"), ("b", "configs/hate.py"))'
    args = [f"--config=configs/asc.py:{parts}", f"--workdir={tmp_path / 'a'}"]
    refused(lambda: pretrain.main(args), "configs/asc.py, configs/hate.py")
    assert not (tmp_path / "a").exists()


def test_views_are_crops_of_their_clip():
    inputs = jnp.arange(3 * 2 * 10.0).reshape(3, 2, 10, 1)
    views = Views(0.6, Strengths())
    got = np.asarray(view(inputs, jax.random.key(0), views))
    assert got.shape == (3, 2, 6, 1)
    for clip, mine in zip(np.asarray(inputs), got, strict=True):
        start = int(mine[0, 0, 0] - clip[0, 0, 0])
        assert 0 <= start <= 4
        np.testing.assert_array_equal(mine, clip[:, start : start + 6])
    one, two = pair(inputs, jax.random.key(0), views)
    assert not np.array_equal(one, two)


def test_features_are_scored(tiny_table):
    """Features that tell classes score 1, random ones about chance."""
    rows = tiny_table.rows_of("test")
    labels = tiny_table.labels[rows]
    assert set(labels) == {6, 7, 8}
    rng = np.random.default_rng(0)
    good = np.eye(9, dtype=np.float32)[labels]
    noise = rng.normal(size=(len(rows), 9)).astype(np.float32)
    from htmaml_jax.data.draw import Shape

    def scores(features):
        table = tiny_table.with_features(rows, features)
        source = sources.device(table, Shape(3, 1, 3, 3, 1), "test", 0)
        heard = tiny_table.recordings[rows]
        return (
            pretraining.nearest(source, 3, 300),
            pretraining.probe(features, labels, heard),
        )

    assert scores(good) == (1.0, 1.0)
    assert all(0.15 < x < 0.55 for x in scores(noise))


def test_pretraining_is_given_training_rows_alone(data, tmp_path, monkeypatch):
    given = []

    def pairs(table, rows, count):
        given.append((table, rows))
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "pairs", pairs)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(arguments(data, tmp_path / "run"))
    ((table, rows),) = given
    names = {table.classes[i] for i in table.labels[rows]}
    assert names == set(table.splits["train"])


def test_batches_hold_every_row(tiny_table):
    rows = np.arange(5, 47)
    got = np.concatenate(list(sources.batches(tiny_table, rows, 16)))
    assert len(got) == 48
    np.testing.assert_allclose(got[:42], tiny_table.inputs[rows], atol=1e-6)
    shared, sample = sources.pairs(tiny_table, rows, 10)
    inputs, others, heard = sample(shared, jax.random.key(0))
    assert inputs.shape[0] == 10
    for x, recording in zip(np.asarray(inputs), heard, strict=True):
        mine = [i for i in rows if np.allclose(tiny_table.inputs[i], x)]
        assert tiny_table.recordings[mine[0]] == recording
