"""The optimizer: rates, decay, clipping, one for each part."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import tree_leaves_with_path as leaves_with_path

from htmaml_jax import config
from htmaml_jax.hyper.rules import path_of
from htmaml_jax.run.optimizer import make_optimizer


def zero_gradient_updates(outer, steps):
    """Returns every update of a meta of ones under gradients of 0."""
    matrix, vector = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    meta = {
        "base": {"kernel": matrix, "bias": vector},
        "embed": {"kernel": matrix, "bias": vector},
        "hyper": {"kernel": matrix, "scale": vector},
        "inner": {"kernel": matrix},
    }
    optimizer = make_optimizer(outer, steps)
    zeros = jax.tree.map(np.zeros_like, meta)
    run = jax.jit(lambda state: optimizer.update(zeros, state, meta))
    state, found = optimizer.init(meta), []
    for _ in range(steps + 1):
        updates, state = run(state)
        found.append(jax.tree.map(np.asarray, updates))
    return found


def test_decay_reaches_matrices_that_read_the_task_and_follows_the_rate():
    outer = config.default().outer
    outer.update(rate=0.2, warmup=0.25, floor=0.1, decay=0.5)
    steps, warmup = 20, 5
    found = zero_gradient_updates(outer, steps)
    # Under gradients of 0 an update is -rate * decay * parameter.
    rates = []
    for updates in found:
        rate = -updates["hyper"]["kernel"][0, 0] / outer.decay
        rates.append(rate)
        for keys, x in leaves_with_path(updates):
            path = path_of(keys)
            decays = path in ("embed/kernel", "hyper/kernel")
            expected = -rate * outer.decay if decays else 0
            np.testing.assert_allclose(x, expected, rtol=1e-6, err_msg=path)
    assert rates[0] == 0
    assert np.argmax(rates) == warmup
    np.testing.assert_allclose(rates[warmup], outer.rate, rtol=1e-6)
    final = outer.floor * outer.rate
    np.testing.assert_allclose(rates[steps], final, rtol=1e-5)
    assert np.all(np.diff(rates[:warmup]) > 0)
    assert np.all(np.diff(rates[warmup:]) < 0)


def test_gradients_are_clipped_by_their_common_norm():
    outer = config.default().outer
    meta = {"base": np.zeros(3, np.float32), "hyper": np.zeros(4, np.float32)}
    optimizer = make_optimizer(outer, 10)
    gradient = jax.tree.map(lambda x: x + 100.0, meta)
    _, state = optimizer.update(gradient, optimizer.init(meta), meta)
    mean = optax.tree.get(state, "mu")
    # Adam's first mean is 0.1 of what it was given.
    size = 10 * optax.tree.norm(mean)
    np.testing.assert_allclose(size, outer.clip, rtol=1e-5)
    np.testing.assert_allclose(mean["base"][0], mean["hyper"][0], rtol=1e-6)


def test_joint_and_meta_training_have_an_optimizer_each():
    """Weights that idled are moved as if training had begun at the change."""
    outer = config.default().outer
    outer.joint_until = 0.5
    whole = make_optimizer(outer, 19)
    outer.joint_until = 0.0
    parts = [make_optimizer(outer, 10), make_optimizer(outer, 9)]
    params = {"base": {"w": jnp.ones(3)}, "hyper": {"w": jnp.ones(2)}}
    again, state = params, whole.init(params)
    rng = np.random.default_rng(0)
    for steps, part in zip((10, 9), parts, strict=True):
        own = part.init(again)
        for _ in range(steps):
            idle = jnp.zeros(2) if steps == 10 else rng.normal(size=2)
            gradient = {"base": {"w": rng.normal(size=3)}, "hyper": {"w": idle}}
            gradient = jax.tree.map(jnp.float32, gradient)
            change, state = whole.update(gradient, state, params)
            params = optax.apply_updates(params, change)
            change, own = part.update(gradient, own, again)
            again = optax.apply_updates(again, change)
            jax.tree.map(np.testing.assert_allclose, params, again)
        moved = np.abs(params["hyper"]["w"] - 1).max()
        assert (moved == 0) == (steps == 10)


def test_warm_up_leaves_an_update_at_the_rate():
    """However long it is asked to be, of however few updates."""
    outer = config.default().outer
    outer.update(warmup=0.99, floor=0.0, decay=0.1)
    for steps in (1, 2, 50):
        found = zero_gradient_updates(outer, steps)
        assert len(found) == steps + 1
        moved = [abs(x["hyper"]["kernel"]).max() for x in found]
        assert np.isfinite(moved).all() and max(moved) > 0
