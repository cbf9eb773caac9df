"""Several domains in one update, whose generators share a trunk."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import fields_of

from htmaml_jax import starts, systems
from htmaml_jax.data import find
from htmaml_jax.errors import UserError
from htmaml_jax.run import checkpoints, joint

RATE = 0.1


def meta(block, head):
    return {
        "base": {"w": jnp.asarray(head)},
        "hyper": {
            "block0": {"w": jnp.asarray(block)},
            "places": jnp.asarray(head),
        },
    }


def sgd(*names):
    one = optax.sgd(RATE)
    trunks = {name: one for name in ("all", *names)}
    return {name: one for name in (*names, "doubt")} | {"trunk": trunks}


@pytest.mark.slow
def test_a_generator_is_its_trunk_and_what_is_of_its_parameters():
    fields = fields_of("htmaml")
    episode = find.blank_episode(fields.data)
    whole = systems.build(fields, 5).init(jax.random.key(0), episode)
    trunk, own = joint.split(whole)
    assert sorted(trunk) == ["block0", "norm", "read_classes", "read_summary"]
    # What is left bears names of parameters, or one vector for each.
    assert all(k == "places" or k[:4] in ("body", "head") for k in own["hyper"])
    assert jax.tree.structure(joint.merge(trunk, own)) == jax.tree.structure(
        whole
    )


@pytest.mark.parametrize("shared", [True, False])
def test_update_by_hand(shared):
    metas = {"a": meta(1.0, 2.0), "b": meta(5.0, 3.0)}
    state = joint.init(metas, sgd("a", "b"), shared)
    update = joint.make_update(sgd("a", "b"), "none")
    gradients = {"a": meta(10.0, 1.0), "b": meta(20.0, 2.0)}
    losses = {"a": jnp.asarray(1.0), "b": jnp.asarray(3.0)}
    state, share = update(state, gradients, losses)
    a, b = (joint.meta_of(state, name) for name in "ab")
    np.testing.assert_allclose([a["base"]["w"], b["base"]["w"]], [1.9, 2.8])
    np.testing.assert_allclose(a["hyper"]["places"], 1.9, rtol=1e-6)
    blocks = [m["hyper"]["block0"]["w"] for m in (a, b)]
    # One trunk begins as that of the first and takes the mean step.
    wanted = [1 - RATE * 15] * 2 if shared else [1 - RATE * 10, 5 - RATE * 20]
    np.testing.assert_allclose(blocks, wanted, atol=1e-6)
    np.testing.assert_allclose(list(share.values()), 0.5)
    # The gradient of exp(-s) loss + s at s = 0.
    np.testing.assert_allclose(
        [state.doubt["a"], state.doubt["b"]], [0.0, RATE * 2], atol=1e-6
    )


@pytest.mark.parametrize("shared", [True, False])
def test_trunks_learn_by_an_optimizer_of_their_own(shared):
    """At one rate, whether there is one or one each."""
    optimizers = sgd("a", "b") | {"a": optax.sgd(3 * RATE)}
    state = joint.init(
        {"a": meta(1.0, 2.0), "b": meta(1.0, 3.0)}, optimizers, shared
    )
    update = joint.make_update(optimizers, "none")
    losses = {"a": jnp.asarray(1.0), "b": jnp.asarray(1.0)}
    same = {"a": meta(10.0, 1.0), "b": meta(10.0, 1.0)}
    state, _ = update(state, same, losses)
    a, b = (joint.meta_of(state, name) for name in "ab")
    blocks = [m["hyper"]["block0"]["w"] for m in (a, b)]
    np.testing.assert_allclose(blocks, 1 - RATE * 10, atol=1e-6)
    np.testing.assert_allclose([a["base"]["w"], b["base"]["w"]], [1.7, 2.9])


@pytest.mark.slow
def test_a_saved_trunk_is_the_start_of_another_domain(tmp_path):
    fields = fields_of("htmaml")
    fields.hyper.pretrained = str(tmp_path)
    episode = find.blank_episode(fields.data)
    learner = systems.build(fields, 5)
    first, meta = (learner.init(jax.random.key(i), episode) for i in (1, 2))
    saved = checkpoints.Checkpoints(tmp_path)
    metas = {"a": first, "b": first}
    shared = {"joint": {"shared": True, "parts": [["a", "a.py"]]}}
    saved.save(
        "latest", 1, joint.init(metas, sgd("a", "b")), {"config": shared}
    )
    saved.close()
    begun = starts.trunk(meta, fields)
    wanted = joint.merge(joint.split(first)[0], joint.split(meta)[1])
    jax.tree.map(np.testing.assert_array_equal, begun, wanted)


def test_a_part_that_was_not_saved_is_missed(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    saved.save("latest", 1, {"old": jnp.ones(3)}, {})
    saved.close()
    saved = checkpoints.Checkpoints(tmp_path)
    with pytest.raises(UserError, match="has no new of this form"):
        saved.part("latest", "new", {"w": jnp.ones(3)})
    saved.close()


def test_shares():
    doubt = {"a": jnp.asarray(0.0), "b": jnp.log(4.0)}
    trunks = {"a": {"w": jnp.asarray([3.0, 4.0])}, "b": {"w": jnp.ones(1)}}
    found = joint.shares("none", doubt, trunks)
    np.testing.assert_allclose(list(found.values()), [0.5, 0.5])
    found = joint.shares("uncertainty", doubt, trunks)
    np.testing.assert_allclose(list(found.values()), [0.8, 0.2], rtol=1e-6)
    found = joint.shares("gradient", doubt, trunks)
    # Both gradients get the mean of the norms 5 and 1, and half of that.
    np.testing.assert_allclose(list(found.values()), [0.3, 1.5], rtol=1e-6)
    # What still learns jointly has none, and must not silence the others.
    trunks["c"] = {"w": jnp.zeros(3)}
    found = joint.shares("gradient", doubt, trunks)
    np.testing.assert_allclose(list(found.values()), [0.3, 1.5, 0], rtol=1e-6)


def test_a_tiny_gradient_does_not_silence_the_others():
    """Brought to one norm, each moves the trunk as far as the other."""
    state = joint.init(
        {"a": meta(0.0, 0.0), "b": meta(0.0, 0.0)}, sgd("a", "b")
    )
    update = joint.make_update(sgd("a", "b"), "gradient")
    losses = {"a": jnp.asarray(1.0), "b": jnp.asarray(1.0)}
    gradients = {"a": meta(1e-6, 0.0), "b": meta(1.0, 0.0)}
    state, _ = update(state, gradients, losses)
    moved = joint.meta_of(state, "a")["hyper"]["block0"]["w"]
    np.testing.assert_allclose(moved, -RATE * (1 + 1e-6) / 2, rtol=1e-5)


def test_uncertainty_settles_at_the_size_of_the_loss():
    metas = {"a": meta(1.0, 2.0), "b": meta(1.0, 3.0)}
    optimizers = sgd("a", "b") | {"doubt": joint.doubts()}
    state = joint.init(metas, optimizers)
    update = joint.make_update(optimizers, "uncertainty")
    still = {name: jax.tree.map(jnp.zeros_like, metas["a"]) for name in "ab"}
    for _ in range(300):  # as many as the config has
        losses = {"a": jnp.asarray(0.5), "b": jnp.asarray(4.0)}
        state, share = update(state, still, losses)
    found = np.exp([state.doubt["a"], state.doubt["b"]])
    np.testing.assert_allclose(found, [0.5, 4.0], rtol=1e-3)
    np.testing.assert_allclose(share["a"], 8 * share["b"], rtol=1e-3)


def test_trunks_that_do_not_fit_are_refused():
    other = meta(1.0, 2.0)
    other["hyper"]["block0"]["w"] = jnp.ones(3)
    with pytest.raises(UserError, match="b and a cannot share a trunk"):
        joint.init({"a": meta(1.0, 2.0), "b": other}, sgd("a", "b"))
    joint.init({"a": meta(1.0, 2.0), "b": other}, sgd("a", "b"), False)
