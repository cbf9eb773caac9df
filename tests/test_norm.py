"""Norm layers against those of Flax, and what queries may see."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_nets import assert_close, up_to_second_order

from htmaml_jax.nets.norm import GroupNorm, Norm


def test_group_norm_is_flax_group_norm():
    rng = np.random.default_rng(3)
    shape, groups = (3, 4, 5, 8), 4

    def draw():
        return (
            {
                "scale": rng.normal(size=shape[-1]),
                "bias": rng.normal(size=shape[-1]),
            },
            # A mean that is not 0 shows a variance without its centre.
            rng.normal(size=shape) + 0.5,
        )

    with jax.enable_x64(True):
        run = jax.jit(up_to_second_order, static_argnums=0)
        args = draw(), draw(), rng.normal(size=shape)
        ours, theirs = (
            run(lambda p, x, m=m: m.apply({"params": p}, x), *args)
            for m in (GroupNorm(groups), nn.GroupNorm(groups))
        )
        assert_close(ours, theirs, 1e-10)


def test_support_norm_stores_what_the_real_support_has():
    rng = np.random.default_rng(4)
    channels, epsilon = 8, 1e-5
    support = rng.normal(2.0, 3.0, size=(5, 3, 4, channels))
    support = support.astype(np.float32)
    mask = np.array([1, 0, 1, 1, 0], np.float32)
    support[mask == 0] = 1e4
    query = rng.normal(size=(2, 3, 4, channels)).astype(np.float32)
    params = {
        "scale": rng.normal(size=channels).astype(np.float32),
        "bias": rng.normal(size=channels).astype(np.float32),
    }
    norm = Norm("support")
    variables = {"params": {"BatchNorm_0": params}}
    real = support[mask > 0].astype(np.float64)
    mean, variance = real.mean((0, 1, 2)), real.var((0, 1, 2))

    def expected(x):
        x = (x - mean) / np.sqrt(variance + epsilon)
        return x * params["scale"] + params["bias"]

    outputs, stored = norm.apply(
        variables, support, mask, False, mutable=["batch_stats"]
    )
    stats = stored["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats["var"], variance, rtol=1e-5)
    np.testing.assert_allclose(
        outputs[mask > 0], expected(real), rtol=1e-4, atol=1e-4
    )
    answers, after = norm.apply(
        {**variables, **stored}, query, None, True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(answers, expected(query), rtol=1e-4, atol=1e-4)
    # A query pass leaves the statistics alone.
    for name, value in after["batch_stats"]["BatchNorm_0"].items():
        np.testing.assert_array_equal(value, stats[name])


def test_norm_none_has_no_effect_and_another_kind_is_refused():
    inputs = np.ones((2, 3, 8), np.float32)
    output, variables = Norm("none").init_with_output(
        jax.random.key(0), inputs, None, False
    )
    np.testing.assert_array_equal(output, inputs)
    assert not variables
    with pytest.raises(ValueError, match="batch"):
        Norm("batch").init(jax.random.key(0), inputs, None, False)


def test_instance_norm_is_of_each_channel_alone():
    inputs = np.random.default_rng(0).normal(2.0, 3.0, size=(2, 4, 5, 16))
    made, _ = Norm("instance").init_with_output(
        jax.random.key(0), jnp.asarray(inputs), None, False
    )
    mean, spread = (f(inputs, (1, 2), keepdims=True) for f in (np.mean, np.std))
    np.testing.assert_allclose(made, (inputs - mean) / spread, atol=1e-4)
