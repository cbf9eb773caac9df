"""Several structures by networks that learned on one at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_volumes import batch_of, config_of

from htmaml_jax import systems
from htmaml_jax.data import find
from htmaml_jax.episode import Episode
from htmaml_jax.run import look as looks


def masks(seed, count=2):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (count, 8, 8, 8))


@functools.lru_cache
def trained(system="htmaml", **fields):
    """Returns (config, meta) whose generator is no identity."""
    config = config_of(system, **fields)
    learner = systems.build(config, 1, known=3)
    meta = learner.init(jax.random.key(0), find.blank_episode(config.data))
    leaves, tree = jax.tree.flatten(meta)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        x + 0.1 * jax.random.normal(k, x.shape)
        for x, k in zip(leaves, keys, strict=True)
    ]
    return config, jax.tree.unflatten(tree, moved)


def answers(learner, meta, support, inputs):
    return jax.jit(lambda m, s, x: learner.predict(learner.adapt(m, s), x))(
        meta, support, inputs
    )


@pytest.mark.parametrize("system", ["htmaml", "maml"])
def test_each_structure_is_a_task_of_its_own(system):
    config, meta = trained(system)
    one, two = (systems.build(config, n) for n in (1, 2))
    both, query = batch_of(masks(0)), batch_of(masks(1))
    found = answers(two, meta, both, query.inputs)
    assert found.shape == (2, 8, 8, 8, 2)
    for slot in (1, 2):
        alone = both._replace(targets=(both.targets == slot).astype(jnp.int32))
        wanted = answers(one, meta, alone, query.inputs)[..., 0]
        np.testing.assert_allclose(
            found[..., slot - 1], wanted, rtol=1e-4, atol=1e-4
        )


def test_tuning_is_of_each_structure_alone():
    config, meta = trained("maml")
    config = config.copy_and_resolve_references()
    config.eval.finetune = 2
    one, two = (systems.build(config, n) for n in (1, 2))
    both, query = batch_of(masks(0)), batch_of(masks(1))
    found = answers(two, meta, both, query.inputs)
    alone = both._replace(targets=(both.targets == 2).astype(jnp.int32))
    wanted = answers(one, meta, alone, query.inputs)[..., 0]
    np.testing.assert_allclose(found[..., 1], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("learned", "asked", "apart"), [(1, 1, 0), (1, 2, 1), (2, 2, 0), (2, 3, 0)]
)
def test_who_learned_on_several_answers_for_them_at_once(learned, asked, apart):
    config = config_of("maml", **{"data.way": learned})
    learner = systems.build(config, asked)
    assert (type(learner).__name__ == "OneByOne") == bool(apart)


def test_a_look_shows_what_is_judged():
    config, meta = trained("htmaml")
    learner = systems.build(config, 2)
    episode = Episode(
        batch_of(masks(0)),
        batch_of(masks(1)),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), jnp.int32),
    )
    see = looks.make_look(
        learner, lambda _, x: jax.tree.map(lambda y: y[None], x)
    )
    _, found = see(meta, None, episode)
    score = jax.jit(learner.score)(meta, episode)
    assert found.scores.shape == (2,)
    np.testing.assert_allclose(found.scores[-1], score, rtol=1e-5)
    assert found.outputs.shape == (2, 2, 8, 8, 8, 2)
    assert found.tokens.shape[0] == 2 and found.summary.ndim == 1
