"""Layers of nets/ against those of JAX and Flax that they replace."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from htmaml_jax import config, fillings
from htmaml_jax.nets import conv as convs
from htmaml_jax.nets.conv import Conv, conv, max_pool
from htmaml_jax.nets.conv4 import ConvBody
from htmaml_jax.nets.norm import GroupNorm
from htmaml_jax.nets.unet import UNet

TASKS = 2
LETTERS = "DHW"


@st.composite
def cases(draw):
    """Draws (space, window, strides, padding, channels in, lowering)."""
    axes = draw(st.integers(1, 3))
    window = draw(st.tuples(*[st.integers(1, 3)] * axes))
    # At least the window, else VALID leaves nothing.
    space = tuple(k + draw(st.integers(0, 4)) for k in window)
    strides = draw(st.tuples(*[st.integers(1, 3)] * axes))
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    lowering = draw(st.sampled_from(["auto", "blocks"]))
    return space, window, strides, padding, draw(st.integers(1, 3)), lowering


def lax_conv(inputs, kernel, strides, padding):
    space = LETTERS[-len(strides) :]
    names = (f"N{space}C", f"{space}IO", f"N{space}C")
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        padding,
        dimension_numbers=names,
        precision="highest",
    )


def up_to_second_order(apply, point, direction, cotangent):
    """Returns values, gradient, and the gradient's slope along `direction`.

    The sine makes the result curved: a convolution alone is bilinear.
    """

    def loss(point):
        outputs = apply(*point)
        return jnp.sum(cotangent * jnp.sin(outputs)), outputs

    gradient = jax.grad(loss, has_aux=True)
    (slopes, values), (curves, moves) = jax.jvp(
        gradient, (point,), (direction,)
    )
    return values, moves, slopes, curves


def assert_close(ours, theirs, tolerance):
    """Compares leaf by leaf, relative to the largest entry."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    for x, y in pairs:
        assert x.shape == y.shape and x.dtype == y.dtype
        size = np.max(np.abs(y), initial=0)
        # Some gradients vanish but for rounding; nothing is smaller than 1.
        error = np.max(np.abs(x - y), initial=0) / max(size, 1)
        assert error <= tolerance, (error, size)


# A compilation costs a second, so examples are few and the same every time.
@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@example(((5, 6), (3, 3), (2, 2), "SAME", 2, "auto"))
@example(((4, 2, 6), (3, 3, 3), (1, 1, 1), "SAME", 2, "blocks"))
@example(((6, 4), (3, 3), (1, 1), "SAME", 3, "blocks"))
@given(cases())
def test_conv_is_lax_conv(case):
    space, window, strides, padding, features, lowering = case
    out = 2
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):

        def draw():
            return (
                rng.normal(size=(TASKS, 2, *space, features)),
                rng.normal(size=(TASKS, *window, features, out)),
            )

        point, direction = draw(), draw()
        shape = jax.eval_shape(
            lambda x, k: lax_conv(x, k, strides, padding),
            *[x[0] for x in point],
        ).shape
        cotangent = rng.normal(size=(TASKS, *shape))

        def ours(*args):
            return conv(*args, lowering)

        @jax.jit
        def both(point, direction, cotangent):
            return [
                # Each task has its own kernel, as in an inner loop.
                jax.vmap(
                    lambda p, d, c, f=f: up_to_second_order(
                        lambda x, k: f(x, k, strides, padding), p, d, c
                    )
                )(point, direction, cotangent)
                for f in (ours, lax_conv)
            ]

        tolerances = {np.float32: 1e-5, np.float64: 1e-12}
        for dtype, tolerance in tolerances.items():
            arrays = jax.tree.map(
                lambda x, t=dtype: x.astype(t), (point, direction, cotangent)
            )
            assert_close(*both(*arrays), tolerance)


def test_conv_in_16_bits_and_under_two_vmaps():
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(2, TASKS, 3, 6, 4, 4)).astype(np.float32)
    kernel = rng.normal(size=(2, TASKS, 3, 3, 4, 5)).astype(np.float32)

    def run(form, strides, *args):
        twice = jax.vmap(jax.vmap(lambda x, k: form(x, k, strides, "SAME")))
        return jax.jit(twice)(*args)

    def blocks(*args):
        return conv(*args, "blocks")

    for form, strides in ((conv, (1, 2)), (blocks, (1, 1))):
        exact = run(lax_conv, strides, inputs, kernel)
        assert_close(run(form, strides, inputs, kernel), exact, 1e-5)
        small = [jnp.asarray(x, jnp.bfloat16) for x in (inputs, kernel)]
        rough = run(form, strides, *small)
        assert rough.dtype == jnp.bfloat16
        assert_close(rough.astype(np.float32), exact, 1e-2)


def test_lowerings_are_one_function():
    """What "auto" picks and what it could pick give the same numbers."""
    rng = np.random.default_rng(6)
    inputs = rng.normal(size=(2, 6, 2, 4, 3)).astype(np.float32)
    layers = [
        Conv(4, (3, 3, 3), lowering=lowering) for lowering in convs.LOWERINGS
    ]
    params = layers[0].init(jax.random.key(0), inputs)
    first, *others = [layer.apply(params, inputs) for layer in layers]
    for other in others:
        assert_close(other, first, 1e-5)
    for dimensions in (1, 2, 3, 4):
        assert convs.resolve("auto", dimensions) in convs.LOWERINGS[1:]
    assert convs.resolve("lax", 3) == "lax"


def test_unet_keeps_the_size_and_reads_the_whole_volume():
    rng = np.random.default_rng(7)
    net = UNet(base=2, levels=3, classes=3, groups=2)
    inputs = rng.normal(size=(1, 8, 4, 12, 1)).astype(np.float32)
    params = jax.jit(net.init)(jax.random.key(1), inputs)
    apply = jax.jit(net.apply)
    outputs = apply(params, inputs)
    assert outputs.shape == (1, 8, 4, 12, 3)
    # A far corner matters through the lowest level.
    other = inputs.copy()
    other[0, -1, -1, -1] += 9
    assert np.any(apply(params, other)[0, 0, 0, 0] != outputs[0, 0, 0, 0])
    half = UNet(base=2, levels=3, classes=3, groups=2, dtype=jnp.bfloat16)
    rough = jax.jit(half.apply)(params, inputs)
    assert rough.dtype == jnp.bfloat16
    assert_close(rough.astype(np.float32), outputs, 5e-2)


def test_later_blocks_of_the_body_grow():
    body = ConvBody(8, 4, "stem", grow=2)
    inputs = jnp.ones((3, 32, 16, 2))
    params = body.init(jax.random.key(0), inputs)["params"]
    widths = [params[f"conv{i}"]["kernel"].shape[-2:] for i in range(4)]
    assert widths == [(2, 8), (8, 8), (8, 16), (16, 32)]
    # What is left of 32x16 after four halvings, in 32 channels.
    assert body.apply({"params": params}, inputs).shape == (3, 2 * 1 * 32)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("pool", ["flat", "mean"])
def test_features_have_the_length_that_is_asked_for(pool, dtype):
    """And their direction is as without it, whatever their size."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 16, 16, 1)).astype(np.float32)
    plain = ConvBody(8, 2, pool=pool, dtype=dtype)
    params = plain.init(jax.random.key(0), inputs)
    body = plain.clone(length=4.0)
    features = body.apply(params, inputs)
    assert features.dtype == jnp.float32
    assert_close(
        np.linalg.norm(features, axis=1), np.full(3, 4.0, np.float32), 1e-4
    )
    whole = plain.apply(params, inputs).astype(np.float32)
    whole *= 4 / np.linalg.norm(whole, axis=1, keepdims=True)
    assert_close(features, whole, 1e-5)
    last = {**params["params"]["norm1"]}
    last = {"norm1": jax.tree.map(lambda x: 30 * x, last)}
    larger = {"params": params["params"] | last}
    tolerance = 1e-4 if dtype is None else 2e-2
    assert_close(body.apply(larger, inputs), features, tolerance)


def test_the_config_says_the_length():
    fields = config.default()
    fields.net.length = 4.0
    body = fillings.body(fields)
    inputs = np.random.default_rng(0).normal(size=(2, 32, 32, 1))
    inputs = inputs.astype(np.float32)
    features = body.apply(body.init(jax.random.key(0), inputs), inputs)
    lengths = np.linalg.norm(features, axis=1)
    assert_close(lengths, np.full(2, 4.0, np.float32), 1e-4)


def test_features_of_nothing_have_no_length_and_finite_gradients():
    inputs = jnp.zeros((1, 16, 16, 1))
    body = ConvBody(8, 2, norm="none", length=4.0)
    params = body.init(jax.random.key(0), inputs)
    features, back = jax.vjp(lambda p: body.apply(p, inputs), params)
    np.testing.assert_array_equal(features, np.zeros_like(features))
    for leaf in jax.tree.leaves(back(jnp.ones_like(features))):
        assert np.all(np.isfinite(leaf))


def test_conv_refuses_another_padding():
    with pytest.raises(ValueError, match="FULL"):
        conv(jnp.zeros((1, 4, 1)), jnp.zeros((3, 1, 1)), (1,), "FULL")


@pytest.mark.parametrize(
    ("space", "window", "padding"),
    [
        ((4, 6), 2, "VALID"),
        ((5, 3), 2, "VALID"),
        ((7,), 3, "SAME"),
        ((5, 4, 3), 2, "SAME"),
    ],
)
def test_max_pool_is_flax_max_pool(space, window, padding):
    rng = np.random.default_rng(1)
    shape = (2, *space, 3)
    # All different, hence without ties, where a gradient is a convention.
    inputs = rng.permutation(np.prod(shape)).reshape(shape) / 7.0
    inputs = inputs.astype(np.float32)
    up = window - 1 if padding == "SAME" else 0
    out = (2, *((n + up) // window for n in space), 3)
    direction = rng.normal(size=shape).astype(np.float32)
    cotangent = rng.normal(size=out).astype(np.float32)

    def theirs(x):
        windows = (window,) * len(space)
        return nn.max_pool(x, windows, windows, padding)

    def mine(x):
        return max_pool(x, window, padding)

    run = jax.jit(up_to_second_order, static_argnums=0)
    ours = run(mine, (inputs,), (direction,), cotangent)
    assert ours[0].shape == out
    assert_close(ours, run(theirs, (inputs,), (direction,), cotangent), 1e-6)


def test_max_pool_leaves_a_short_axis_alone():
    pooled = max_pool(jnp.arange(6.0).reshape(1, 6, 1, 1))
    np.testing.assert_array_equal(pooled.ravel(), [1, 3, 5])
    assert pooled.shape == (1, 3, 1, 1)


def test_max_pool_has_finite_second_derivatives_where_values_tie():
    """Differentiates an inner step through pooled maps that are mostly 0."""
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(4, 9, 8, 2)).astype(np.float32)
    inputs[0] = 0  # A silent clip: every window ties.
    kernel = rng.normal(size=(3, 3, 2, 8)).astype(np.float32)
    norm = GroupNorm(4)
    norm_params = norm.init(jax.random.key(0), inputs @ kernel[0, 0])

    def loss(kernel):
        x = conv(inputs, kernel, (1, 1))
        x = max_pool(nn.relu(norm.apply(norm_params, x)))
        return jnp.mean(jnp.tanh(x) ** 2)

    @jax.jit
    def after_step(kernel):
        outer = lambda k: loss(k - 0.1 * jax.grad(loss)(k))  # noqa: E731
        return jax.grad(outer)(kernel)

    gradient = np.asarray(after_step(kernel))
    assert np.all(np.isfinite(gradient))
    assert np.max(np.abs(gradient)) > 0
