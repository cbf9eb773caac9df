"""The five meta-gradients: exact ones agree, the others are as published."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_meta_gradient import draw_episode, draw_meta, tiny

from htmaml_jax import config, limits
from htmaml_jax.inner import sgd
from htmaml_jax.outer import gradients

TASKS = 2


def distance(a, b):
    """Returns the norm of the difference over the norm."""
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    apart = sum(np.sum((np.asarray(x) - y) ** 2) for x, y in pairs)
    return (apart / sum(np.sum(np.asarray(y) ** 2) for _, y in pairs)) ** 0.5


def single(tree):
    """Rounds what is float64 to float32."""
    return jax.tree.map(
        lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, tree
    )


def build(system, mode, steps):
    learner = tiny(system)
    learner.config.outer.gradient = mode
    learner.config.inner.steps = steps
    return learner


@functools.cache
def drawn(system, steps):
    rng = np.random.default_rng(0)
    episodes = [draw_episode(rng) for _ in range(TASKS)]
    batch = jax.tree.map(lambda *x: np.stack(x), *episodes)
    learner = build(system, "plain", steps)
    return draw_meta(learner, episodes[0], rng), batch


@functools.cache
def meta_gradient(system, mode, steps, double):
    """Differentiates the mean over tasks of a vmap, as large chunks do."""
    learner = build(system, mode, steps)
    meta, batch = drawn(system, steps)
    if not double:
        meta, batch = single(meta), single(batch)
    with jax.enable_x64(double):
        key = jax.random.key(0)

        def mean_loss(meta, batch):
            each = jax.vmap(lambda e: learner.meta_loss(meta, e, key)[0])
            return jnp.mean(each(batch))

        return jax.device_get(jax.jit(jax.grad(mean_loss))(meta, batch))


@pytest.mark.parametrize(
    "mode", [pytest.param("remat", marks=pytest.mark.slow), "mixed"]
)
@pytest.mark.parametrize(
    ("system", "steps"),
    [
        ("maml", 2),
        pytest.param("htmaml", 2, marks=pytest.mark.slow),
        pytest.param("maml", 10, marks=pytest.mark.slow),
    ],
)
def test_exact_modes_agree(system, steps, mode):
    """Ten steps run as a scan, two unrolled."""
    tolerances = {True: 1e-9}
    if (system, steps) == ("maml", 2):  # compiling is what takes the time
        tolerances[False] = 1e-4
    for double, tolerance in tolerances.items():
        reference = meta_gradient(system, "plain", steps, double)
        other = meta_gradient(system, mode, steps, double)
        assert distance(other, reference) < tolerance


def test_modes_are_five_and_the_config_names_them():
    assert len(gradients.MODES) == 5
    for mode in gradients.MODES:
        limits.check(config.parse(config.default(), f"outer.gradient={mode}"))
    with pytest.raises(ValueError, match="plain, remat"):
        gradients.inner_gradient(jnp.sum, "second")


# phi = p - a (H p - c s) for a quadratic support loss with data (c, s): every
# derivative is known by hand.
def quadratic(params, data):
    real, whole = data
    return params @ HESSIAN @ params / 2 - whole * (real @ params)


HESSIAN = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
START = np.array([1.0, -2.0], np.float32)
REAL, WHOLE, RATE = np.array([0.3, 0.7], np.float32), np.int32(3), 0.1


def end(mode):
    def function(params, real):
        gradient = gradients.inner_gradient(
            lambda variables, data: quadratic(variables["p"], data), mode
        )
        start = {"p": params}
        data = (real, WHOLE)
        steps = sgd.init(start, 1, RATE)
        return sgd.descend(gradient, start, steps, data)["p"]

    return jax.jit(jax.jacobian(function, argnums=(0, 1)))(START, REAL)


@pytest.mark.parametrize("mode", gradients.EXACT)
def test_exact_modes_also_pass_through_the_data(mode):
    of_params, of_real = end(mode)
    np.testing.assert_allclose(of_params, np.eye(2) - RATE * HESSIAN, rtol=1e-5)
    np.testing.assert_allclose(of_real, RATE * WHOLE * np.eye(2), atol=1e-6)


def test_first_order_leaves_the_hessian_out():
    of_params, of_real = end("first")
    np.testing.assert_allclose(of_params, np.eye(2), rtol=1e-6)
    np.testing.assert_allclose(of_real, np.zeros((2, 2)), atol=1e-7)


def test_reptile_moves_the_start_towards_the_end():
    learner = build("maml", "reptile", 2)
    meta, batch = drawn("maml", 2)
    episode = single(jax.tree.map(lambda x: x[0], batch))
    meta = single(meta)
    key = jax.random.key(0)
    found = jax.jit(jax.grad(lambda m, e: learner.meta_loss(m, e, key)[0]))(
        meta, episode
    )
    adapted = jax.jit(learner.adapt)(meta, episode.support)
    wanted = jax.tree.map(
        lambda a, b: a - b, meta["base"]["body"], adapted.params["body"]
    )
    assert distance(found["base"]["body"], wanted) < 1e-5
    assert not any(np.any(x) for x in jax.tree.leaves(found["inner"]))
