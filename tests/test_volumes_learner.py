"""Learners of volumes: systems, what cannot work, tuning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_volumes import batch_of, config_of

from htmaml_jax import cli, limits, objective, surfaces, systems
from htmaml_jax.data import find
from htmaml_jax.episode import Batch
from htmaml_jax.errors import UserError
from htmaml_jax.outer import volumes
from htmaml_jax.presets import PRESETS
from htmaml_jax.slots import Adapted

OF_DOMAINS = ("multi-maml",)
OF_NAMES = tuple(x for x, row in PRESETS.items() if "outer.domain_query" in row)


@pytest.mark.parametrize("system", OF_NAMES)
def test_systems_that_know_classes_by_name_are_refused(system):
    with pytest.raises(UserError, match="classes have names"):
        config_of(system)


OTHERS = [x for x in PRESETS if x not in (*OF_DOMAINS, *OF_NAMES)]


@pytest.mark.parametrize(
    ("system", "deep"),
    [
        *((x, False) for x in OTHERS),
        pytest.param("htmaml", True, marks=pytest.mark.slow),
        pytest.param("mmaml", True, marks=pytest.mark.slow),
    ],
)
def test_every_other_system_has_a_meta_gradient(system, deep):
    """Shapes alone: nothing is compiled."""
    fields = {"net.deep": True, "net.blocks": 3, "outer.joint_until": 0.5}
    config = config_of(system, **(fields if deep else {}))
    learner = systems.build(config, 1, known=3)
    episode = find.blank_episode(config.data)
    key = jax.random.key(0)

    def loss(meta, episode):
        return learner.meta_loss(meta, episode, key)

    meta = jax.eval_shape(learner.init, key, episode)
    grads, metrics = jax.eval_shape(jax.grad(loss, has_aux=True), meta, episode)
    assert set(metrics) >= {"loss", "dice"}
    assert jax.tree.structure(grads) == jax.tree.structure(meta)
    score, found, truth = jax.eval_shape(
        functools.partial(surfaces.answers, learner), meta, episode
    )
    assert score.shape == () and found.shape == truth.shape == (1, 8, 8, 8)
    if "joint" in meta:
        assert meta["joint"]["kernel"].shape == (8, 3)


def test_after_joint_training_a_structure_begins_as_all_have_in_common():
    config = config_of("finetune")
    learner = systems.build(config, 1, known=3)
    episode = find.blank_episode(config.data)
    key = jax.random.key(0)
    shapes = jax.eval_shape(learner.init, key, episode)
    meta = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    kernel = jax.random.normal(key, meta["joint"]["kernel"].shape)
    meta["joint"] = {"kernel": kernel, "bias": jnp.array([1.0, 2.0, 6.0])}
    head = learner.start(meta, episode.support, 0).theta["head"]
    np.testing.assert_allclose(head["kernel"][:, 0], kernel.mean(1), rtol=1e-6)
    np.testing.assert_allclose(head["bias"], [3.0], rtol=1e-6)


def test_joint_training_does_not_mirror_structures(monkeypatch):
    """Of a left one a mirrored task would make a right one."""
    config = config_of("finetune")
    learner = systems.build(config, 1, known=3)
    seen = []

    def augment(episode, key, way, strengths):
        seen.append(strengths)
        return episode

    monkeypatch.setattr(objective, "augment", augment)
    episode = find.blank_episode(config.data)
    key = jax.random.key(0)
    meta = jax.eval_shape(learner.init, key, episode)
    jax.eval_shape(learner.meta_loss, meta, episode, key)
    assert config.outer.augment.flip > 0 and config.outer.augment.turn > 0
    # Three arms of different lengths, with a corner in common.
    mask = np.zeros((1, 8, 8, 8), np.int32)
    mask[0, 1, 1, 1:6] = mask[0, 1, 1:4, 1] = mask[0, 1:3, 1, 1] = 1
    side = Batch(mask[..., None].astype(np.float32), mask, np.ones(1))
    episode = episode._replace(support=side, query=side)
    place = functools.partial(
        volumes.augment, episode, way=1, strengths=seen[0]
    )
    keys = jax.random.split(jax.random.key(1), 40)
    found = np.asarray(jax.vmap(place)(key=keys).support.targets)[:, 0]
    rotated = [mask[0].transpose(a) for a in ((1, 2, 0), (2, 0, 1))]
    kinds = [
        [(one == known).all() for known in (mask[0], *rotated)] for one in found
    ]
    assert np.any(kinds, axis=1).all() and np.any(kinds, axis=0).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"way": 2, "data.min_way": 1}, "data.min_way is 1; tasks on volumes"),
        ({"data.side": 9}, "data.side is 9.*multiple of 2"),
        ({"net.down": "stride"}, "net.down=stride is for pictures"),
        ({"outer.augment.roll": 0.5}, "outer.augment.roll is not for volumes"),
        ({"net.width": 12}, "net.width is 12"),
        ({"net.kind": "mlp"}, "net.kind=unet"),
        ({"outer.auxiliary": 0.1}, "are for sounds and pictures"),
        ({"net.deep": True}, "net.blocks of 3 or more"),
        (
            {"net.deep": True, "net.blocks": 3, "outer.gradient": "reptile"},
            "outer.gradient=reptile judge no coarse",
        ),
        (
            {"hyper.kind": "generator", "embed.kind": "set"}
            | {"outer.objective": "joint"},
            "objective=joint needs hyper.kind=identity",
        ),
    ],
)
def test_configs_that_cannot_work(fields, words):
    with pytest.raises(UserError, match=words):
        config_of("maml", **fields)


def test_augmentations_of_volumes_are_for_volumes():
    config, _ = cli.read_config("configs/asc.py", [])
    config.outer.augment.flip = 0.5
    with pytest.raises(
        UserError,
        match="flip, turn, invert, affine, elastic, gamma are for volumes",
    ):
        limits.check(config)
    config.outer.augment.flip, config.eval.finetune_bend = 0.0, 0.1
    with pytest.raises(UserError, match="eval.finetune_bend is for volumes"):
        limits.check(config)


def test_tuning_bends_volumes_and_masks_alike(monkeypatch):
    """Anew in every step, though all steps see the one volume there is."""
    masks = np.zeros((1, 8, 8, 8), int)
    masks[0, 2:6, 2:6, 1:7] = 1
    batch = batch_of(masks)
    batch = batch._replace(inputs=2.0 * batch.targets[..., None])
    learner = systems.build(
        config_of("maml", **{"eval.finetune": 3, "eval.finetune_bend": 0.2}), 1
    )
    seen = []

    def bent(self, params, part, *more):
        jax.debug.callback(lambda *x: seen.append(x), part.inputs, part.targets)
        return jnp.sum(params["w"] ** 2), {}

    monkeypatch.setattr(type(learner), "support_pass", bent)
    start = Adapted({"w": jnp.ones(3)}, {}, jnp.ones(1, bool))
    tuned = learner.tune(start, batch)
    jax.effects_barrier()
    assert (tuned.params["w"] < 1).all()
    assert len(seen) == 3
    for inputs, targets in seen:
        assert 0 < np.mean(targets != masks) < 0.2
        bright = inputs[..., 0] > (inputs.min() + inputs.max()) / 2
        assert np.mean(bright == targets) > 0.95
    assert (seen[0][1] != seen[1][1]).any()
