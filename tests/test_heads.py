"""Heads of joint training and of prototypes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import fields_of
from test_invariances import draw_episode
from test_meta_gradient import draw_meta
from test_systems import WAY

from htmaml_jax import systems
from htmaml_jax.data import draw, sources
from htmaml_jax.episode import Batch
from htmaml_jax.run import look


def tasks_of(table, fields, count):
    """Draws 2-way tasks of a table; the fields are told how large it is."""
    fields.data.update(rows=8, columns=8)
    source = sources.device(table, draw.Shape(2, 2, 3, 2, 2), "train", 0)
    draws = jax.jit(source.episodes)
    return draws(source.shared, np.arange(count, dtype=np.int32))


def test_joint_training_tells_all_training_classes_apart(tiny_table):
    """Whatever slots they are in; compared with the labels of the table."""
    fields = fields_of("finetune")
    tasks = tasks_of(tiny_table, fields, 20)
    learner = systems.build(fields, 2, known=4)
    key = jax.random.key(0)
    meta = jax.jit(learner.init)(key, jax.tree.map(lambda x: x[0], tasks))
    assert meta["joint"]["kernel"].shape[1] == 4

    def mean_loss(meta):
        each = jax.vmap(lambda e: learner.meta_loss(meta, e, key))(tasks)
        return jax.tree.map(jnp.mean, each)

    optimizer = optax.adam(3e-3)
    state = optimizer.init(meta)
    slope = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (first, _), _ = slope(meta)
    np.testing.assert_allclose(first, np.log(4), rtol=1e-5)
    for _ in range(60):
        (loss, metrics), gradient = slope(meta)
        updates, state = optimizer.update(gradient, state)
        meta = optax.apply_updates(meta, updates)
    assert metrics["accuracy"] > 0.95
    table = tiny_table.labels < 4
    batch = Batch(tiny_table.inputs[table], None, np.ones(sum(table)))
    features = learner.features(meta["base"], batch)
    outputs = features @ meta["joint"]["kernel"] + meta["joint"]["bias"]
    right = np.argmax(outputs, axis=1) == tiny_table.labels[table]
    assert right.mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("system", ["htmaml", "multi-maml"])
def test_training_may_be_joint_before_it_is_meta(tiny_table, system):
    """Until then nothing but the network and the joint head has a slope."""
    fields = fields_of(
        system, outer__joint_until=0.5, outer__augment__blend=0.4
    )
    tasks = tasks_of(tiny_table, fields, 2)
    learner = systems.build(fields, 2, known=4)
    alone = systems.build(fields_of("finetune"), 2, known=4)
    key = jax.random.key(0)
    meta = learner.init(key, jax.tree.map(lambda x: x[0], tasks))
    head = meta["joint"]["kernel"]
    meta["joint"]["kernel"] = 0.1 * jax.random.normal(key, head.shape)

    def mean_loss(meta, progress, learner=learner):
        def one(task):
            return learner.meta_loss(meta, task, key, progress)

        return jax.tree.map(jnp.mean, jax.vmap(one)(tasks))

    slope = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (early, metrics), before = slope(meta, 0.49)
    assert early == metrics["loss"]
    if system == "htmaml":  # no class is blended with another one there
        wanted, _ = mean_loss(meta, 0.0, alone)
        np.testing.assert_allclose(early, wanted, rtol=1e-5)
    _, after = slope(meta, 0.5)

    def sizes(gradient):
        return {k: float(optax.tree.norm(x)) for k, x in gradient.items()}

    before, after = sizes(before), sizes(after)
    assert before["joint"] > 0 and after["joint"] == 0
    assert before["inner"] == before["hyper"] == 0 < after["inner"]
    assert before["base"] > 0 and after["base"] > 0


@pytest.mark.slow
def test_schedules_begin_where_joint_training_ends(tiny_table):
    """MAML++ weighs its steps by how far training on tasks has come."""
    changes = {"outer__augment__blend": 0.0}
    plain = fields_of("mamlpp", **changes)
    later = fields_of("mamlpp", outer__joint_until=0.5, **changes)
    tasks = tasks_of(tiny_table, plain, 1)
    task = jax.tree.map(lambda x: x[0], tasks)
    key = jax.random.key(0)
    later = systems.build(later, 2, known=4)
    meta = later.init(key, task)
    plain = systems.build(plain, 2)

    def loss(learner, progress):
        mine = {k: x for k, x in meta.items() if k != "joint" or learner.known}
        return jax.jit(learner.meta_loss)(mine, task, key, progress)[0]

    for share in (0.0, 0.4, 1.0):
        np.testing.assert_allclose(
            loss(later, 0.5 + share / 2), loss(plain, share), rtol=1e-5
        )
    assert abs(loss(plain, 0.0) - loss(plain, 1.0)) > 1e-4


@pytest.mark.parametrize("sharpness", [0.0, 5.0])
def test_a_head_of_prototypes_is_made_of_transformed_features(sharpness):
    """Queries are judged by the transformed body; so must the means be."""
    fields = fields_of(
        "htmaml",
        inner__steps=0,
        hyper__head="prototype",
        hyper__sharpness=sharpness,
        hyper__rules=(("body/.*", "affine"),),
    )
    learner = systems.build(fields, WAY)
    episode = draw_episode()
    meta = draw_meta(learner, episode, np.random.default_rng(1))
    support = episode.support
    with jax.enable_x64(True):
        adapted = learner.adapt(meta, support).params
        inside = learner.features({"body": adapted["body"]}, support)
        outside = learner.features(meta["base"], support)
        logits = learner.predict(
            learner.adapt(meta, support), support.inputs, support.mask
        )
    inside, outside, logits = map(np.asarray, (inside, outside, logits))
    members = np.eye(WAY)[support.targets]
    means = members.T @ inside / members.sum(0)[:, None]
    assert np.max(np.abs(inside - outside)) > 1e-3
    apart = -np.sum((inside[:, None] - means) ** 2, axis=-1)
    apart *= sharpness / inside.shape[-1] if sharpness else 1
    # Distances but for what is the same for all classes.
    centred = (x - x.mean(1, keepdims=True) for x in (logits, apart))
    np.testing.assert_allclose(*centred, rtol=1e-4, atol=1e-4)
    # What is compared between queries is the distances themselves.
    meta, episode = jax.tree.map(jnp.asarray, (meta, episode))
    support = episode.support
    task = jax.tree.map(lambda x: x[None], episode._replace(query=support))
    compare = look.make_comparison(learner, lambda *_: task)
    both = compare(meta, None, None, support.inputs[:3])
    for found, wanted in zip(both, (apart, apart[:3]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
