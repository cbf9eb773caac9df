"""Update rules of the inner loop and what weighs its steps, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htmaml_jax.inner import sgd
from htmaml_jax.outer import gradients, losses

X, Y = np.array([1.0, 2.0], np.float32), np.float32(1.0)
START = {"head/kernel": jnp.array([0.5, -1.0])}
GRADIENT = (0.5 - 2.0 - 1.0) * X


def hand(rule="sgd", rates="layer", change=None, steps=1, **more):
    gradient = gradients.inner_gradient(
        lambda v, data: (v["head/kernel"] @ X - Y) ** 2 / 2
    )
    key = jax.random.key(0)
    learned = sgd.init(START, steps, 0.1, rule, rates, key)
    if change:
        learned = change(learned)
    end = sgd.descend(gradient, START, learned, (), **more)
    return np.asarray(end["head/kernel"])


def test_inner_rules_by_hand():
    start = np.array([0.5, -1.0])
    np.testing.assert_allclose(hand(), start - 0.1 * GRADIENT, rtol=1e-6)
    clipped = np.clip(GRADIENT, -3, 3)
    assert np.any(clipped != GRADIENT)
    np.testing.assert_allclose(hand(clip=3.0), start - 0.1 * clipped, rtol=1e-6)
    np.testing.assert_allclose(
        hand(fade=0.5), start - 0.05 * GRADIENT, rtol=1e-6
    )

    def each(learned):
        assert learned["alpha"]["head"]["kernel"].shape == (1, 2)
        return {"alpha": {"head": {"kernel": jnp.array([[0.1, 0.3]])}}}

    np.testing.assert_allclose(
        hand(rates="weight", change=each),
        start - np.array([0.1, 0.3]) * GRADIENT,
        rtol=1e-6,
    )


def test_step_sizes_of_a_task_by_hand():
    learned = sgd.init(
        {"b": jnp.ones(3), "a/b": jnp.ones(2)},
        2,
        0.5,
        rates="task",
        key=jax.random.key(1),
        width=4,
    )
    task = jnp.array([1.0, -2.0, 0.5, 3.0])
    plain = sgd.fitted(learned, task)
    assert set(plain) == {"alpha"}
    np.testing.assert_allclose(plain["alpha"]["b"], 0.5)
    net = learned["task"]
    hidden = np.maximum(task @ net["kernel0"], 0)
    assert hidden.any()
    net["kernel1"] = net["kernel1"].at[:, 0].set(1.0)
    net["bias1"] = net["bias1"].at[3].set(2.0)
    for strength in (1.0, 0.5):
        # Of tensors in the order of their names, step after step.
        found = sgd.fitted(learned, task, strength)["alpha"]
        wanted = 0.5 * np.exp(0.1 * strength * np.array([hidden.sum(), 0]))
        np.testing.assert_allclose(found["a"]["b"], wanted, rtol=1e-5)
        wanted = 0.5 * np.exp(0.1 * strength * np.array([0, 2.0]))
        np.testing.assert_allclose(found["b"], wanted, rtol=1e-5)


def test_scanned_steps_are_the_unrolled_ones(monkeypatch):
    unrolled = hand(steps=3)
    assert np.abs(unrolled - hand(steps=2)).max() > 1e-3
    scans = []
    scan = jax.lax.scan
    monkeypatch.setattr(jax.lax, "scan", lambda *x: scans.append(1) or scan(*x))
    np.testing.assert_allclose(hand(steps=3, unroll=3), unrolled, rtol=1e-6)
    assert not scans
    np.testing.assert_allclose(hand(steps=3, unroll=2), unrolled, rtol=1e-6)
    assert scans


def test_curvature_and_alfa_by_hand():
    start = np.array([0.5, -1.0])
    for rule in ("curvature", "alfa"):
        decay = 5e-5 * start if rule == "alfa" else 0
        np.testing.assert_allclose(
            hand(rule), start - 0.1 * GRADIENT - decay, rtol=1e-6
        )
    turn = np.array([[0.0, 2.0], [1.0, 0.5]], np.float32)

    def turned(learned):
        learned["curvature"] = {"head": {"kernel": [jnp.asarray(turn)]}}
        return learned

    np.testing.assert_allclose(
        hand("curvature", change=turned),
        start - 0.1 * GRADIENT @ turn,
        rtol=1e-6,
    )

    def generated(learned):
        net = learned["alfa"]
        # Hidden units (1, 0), outputs 1 + (2, 3) for step size and decay.
        net["kernel0"], net["bias0"] = jnp.zeros((2, 2)), jnp.array([1.0, -1])
        net["kernel1"] = jnp.array([[2.0, 3.0], [7.0, 7.0]])
        return learned

    np.testing.assert_allclose(
        hand("alfa", change=generated),
        start - 3 * 0.1 * GRADIENT - 4 * 5e-5 * start,
        rtol=1e-6,
    )


def test_curvature_turns_every_side_of_a_kernel():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 4, 5))
    sides = [rng.normal(size=(n, n)) for n in (6, 4, 5)]
    wanted = np.einsum("fci,gf,cd,io->gdo", kernel.reshape(6, 4, 5), *sides)
    found = sgd._curve(jnp.asarray(kernel), sides)
    np.testing.assert_allclose(found.reshape(6, 4, 5), wanted, rtol=1e-4)


def test_multi_step_weights_sum_to_one_and_move_to_the_last():
    for progress in (0.0, 0.05, 0.5):
        weights = np.array(losses.step_weights(4, progress))
        assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(losses.step_weights(4, 0.0), [0.25] * 4)
    np.testing.assert_allclose(
        losses.step_weights(4, 1.0)[:3], [0.03 / 4] * 3, rtol=1e-5
    )


def test_derivative_order_is_annealed():
    def end(second):
        gradient = gradients.annealed(jax.grad(lambda v, _: v**4), second)
        return jax.grad(lambda v: v - 0.1 * gradient(v, None))(2.0)

    assert end(jnp.bool_(False)) == 1
    np.testing.assert_allclose(end(jnp.bool_(True)), 1 - 0.1 * 48, rtol=1e-5)
