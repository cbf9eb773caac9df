"""Runs that start from another's network, and tuning after the inner loop."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
import tiny

from htmaml_jax import evaluate, starts, systems, train
from htmaml_jax.data import find
from htmaml_jax.errors import UserError


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("starts") / "clips")


@pytest.fixture(scope="module")
def first(clips):
    run = clips.parent / "first"
    fields = {"system": "finetune", "train.steps": 3}
    train.main(tiny.arguments(clips, run, **fields))
    return run


def base_of(run):
    return evaluate.restore(run, "latest")[1]["base"]


@pytest.mark.slow
def test_training_starts_from_another_network(clips, first, tmp_path):
    fields = {"net.pretrained": first, "train.steps": 1}
    still, moved = tmp_path / "still", tmp_path / "moved"
    frozen = {"outer.frozen": "base/.*"}
    train.main(tiny.arguments(clips, still, **fields, **frozen))
    old = base_of(first)
    jax.tree.map(np.testing.assert_array_equal, base_of(still), old)
    # Of tasks alone: a joint head of zeros moves nothing below it at first.
    longer = {"train.steps": 3, "outer.joint_until": 0.0}
    train.main(tiny.arguments(clips, moved, **fields | longer))
    apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), base_of(moved), old)
    # Two updates of 1e-3 at most: it cannot have begun elsewhere.
    assert 0 < max(jax.tree.leaves(apart)) < 4e-3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"net.width": 16}, "another network .*width=8"),
        ({"net.length": 2.5}, "another network .*length=0.0"),
        ({"net.pretrained": "no"}, "no is not a folder"),
    ],
)
def test_what_cannot_be_started_from(clips, first, tmp_path, fields, words):
    fields = {"net.pretrained": first, "train.steps": 1} | fields
    with pytest.raises(UserError, match=words):
        train.main(tiny.arguments(clips, tmp_path / "run", **fields))
    assert not (tmp_path / "run").exists()


def test_a_network_that_met_classes_held_out_is_refused(first):
    info, _, config = evaluate.restore(first, "latest")
    config.unlock()
    config.net.pretrained = str(first)
    learned = info["data"]["splits"]["train"]
    with pytest.raises(UserError, match="has met 2 of these test classes"):
        starts.met(config, {"test": learned[:2]})
    found = starts.met(config, {"train": learned})
    assert found == [{"name": config.data.name, "train": learned}]


@pytest.mark.slow
def test_what_a_start_has_met_is_remembered(clips, first, tmp_path):
    """By a run of other classes, and by what begins from that one."""
    other = shutil.copytree(clips, tmp_path / "clips")
    for folder in sorted(other.iterdir()):
        folder.rename(other / f"new-{folder.name}")
    run = tmp_path / "run"
    fields = {"system": "finetune", "net.pretrained": first, "train.steps": 1}
    train.main(tiny.arguments(other, run, **fields))
    learned = evaluate.restore(first, "latest")[0]["data"]["splits"]["train"]
    info, _, config = evaluate.restore(run, "latest")
    assert [x["train"] for x in info["data"]["met"]] == [learned]
    config.unlock()
    config.net.pretrained = str(run)
    mine = info["data"]["splits"]["train"]
    assert [x["train"] for x in starts.met(config, {})] == [mine, learned]
    tests = tmp_path / "tests"
    for i, folder in enumerate(sorted(other.iterdir())[:9]):
        split = ("train", "validation", "test")[i // 3]
        name = learned[i] if split == "test" else f"more{i}"
        shutil.copytree(folder, tests / split / name)
    where = [("data.dir", str(tests)), ("eval.episodes", "4")]
    with pytest.raises(UserError, match="has met 3 of these test classes"):
        evaluate.evaluate(run, "latest", where)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [0, 3])
def test_tuning_is_adam_on_the_support_set(batch):
    """Against a loop by hand, whose examples take turns."""
    source, _ = small.numbers_data()
    pieces = next(source.pieces(0, 1))
    episode = jax.tree.map(
        lambda x: x[0], source.episodes(source.shared, pieces)
    )
    more = {"eval__finetune_rate": 0.01, "eval__finetune_batch": batch}
    plain, tuned = (
        systems.build(
            small.fields_of("maml", True, eval__finetune=n, **more), 1
        )
        for n in (0, 4)
    )
    meta = plain.init(jax.random.key(0), episode)
    support = episode.support
    got = tuned.adapt(meta, support)
    adapted = plain.adapt(meta, support)
    params, optimizer = adapted.params, optax.adam(0.01)
    state = optimizer.init(params)
    order = np.arange(100) % 10
    for k in range(4):
        rows = order[k * batch : (k + 1) * batch] if batch else order[:10]
        part = jax.tree.map(lambda x, rows=rows: x[rows], support)
        grads = jax.grad(
            lambda p, part=part: plain.support_pass(p, part, adapted.classes)[0]
        )(params)
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        got.params,
        params,
    )


@pytest.mark.slow
def test_tuning_shows_some_of_every_class(monkeypatch):
    """Examples of a class stand together; a step must not see one alone."""
    seen = []

    def watched(self, params, support, *more):
        seen.append(support.targets)
        return jnp.sum(params["head"]["bias"]) ** 2, {}

    fields = small.fields_of("maml", eval__finetune=3, inner__steps=0)
    way = fields.data.way
    fields.eval.finetune_batch = way
    learner = systems.build(fields, way)
    blank = find.blank_episode(fields.data)
    first = jax.tree.map(lambda x: x[:way], blank.support)
    support = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), first)
    support = support._replace(targets=jnp.repeat(jnp.arange(way), 2))
    meta = learner.init(jax.random.key(0), blank)
    adapted = learner.adapt(meta, support)
    monkeypatch.setattr(type(learner), "support_pass", watched)
    with jax.disable_jit():
        learner.tune(adapted, support)
    assert len(seen) == 3
    assert all(sorted(x.tolist()) == list(range(way)) for x in seen)


def test_a_result_says_that_it_was_tuned(first):
    few = ("eval.episodes", "4")
    tuned = [few, ("eval.finetune", "2")]
    found = evaluate.evaluate(first, "latest", tuned)
    assert found["variant"] == "tuned2"
    assert found["config"]["eval"]["finetune"] == 2
    plain = evaluate.evaluate(first, "latest", [few])
    assert plain["variant"] == "default"
