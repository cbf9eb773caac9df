"""Meta-gradients against central finite differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htmaml_jax import cli, config, systems
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.hyper.rules import path_of

WAY, SHOT, QUERY, SIZE = 3, 2, 2, 8
GROUPS = {
    "maml": ("base", "inner"),
    "htmaml": ("base", "embed", "hyper", "inner"),
}
VOLUMES = 4  # cells along a side
# Across a kink of ReLU or max-pool the inner gradient jumps, and with it the
# loss. Inputs and network are tiny and the step is short so that no kink lies
# between the two points: over 10 other seeds this step passes in all of 120
# directions, 1e-4 fails in 10.
STEP = 1e-5
DIRECTIONS = 3


def tiny(system):
    fields = config.default()
    config.choose(fields, system)
    fields.net.update(width=8, blocks=2)
    fields.embed.update(width=8, dim=8)
    # Dropout would draw from JAX, see `draw_meta`.
    fields.hyper.update(dim=8, layers=1, dropout=0.0)
    fields.inner.steps = 2
    return systems.build(fields, WAY)


def tiny_volumes(system):
    """The same for the U-Net of configs/seg3d.py on blocks of voxels."""
    fields, _ = cli.read_config("configs/seg3d.py", [("system", system)])
    with fields.unlocked():
        fields.data.side = VOLUMES
        fields.net.update(width=8, blocks=2)
        fields.embed.update(width=8, dim=8)
        fields.hyper.update(dim=8, layers=1, dropout=0.0)
        fields.inner.steps = 2
        fields.outer.augment.update(flip=0.0, turn=0.0, invert=0.0, noise=0.0)
    return systems.build(fields, 1)


def draw_volumes(rng):
    def side(count):
        inputs = rng.normal(size=(count, *(VOLUMES,) * 3, 1))
        masks = (rng.random(size=inputs.shape[:-1]) < 0.4).astype(np.int32)
        return Batch(inputs, masks, np.ones(count, np.float32))

    return Episode(side(SHOT), side(QUERY), np.int32(0), np.int32(0))


def draw_episode(rng):
    def side(shot):
        targets = np.repeat(np.arange(WAY, dtype=np.int32), shot)
        inputs = rng.normal(size=(len(targets), SIZE, SIZE, 1))
        mask = np.ones(len(targets), np.float32)
        mask[-1] = 0
        return Batch(inputs, targets, mask)

    return Episode(side(SHOT), side(QUERY), np.int32(0), np.int32(0))


def draw_meta(learner, episode, rng):
    """Draws every leaf away from its start: zero heads hide gradients.

    From NumPy rather than `init`, so that it stays what it is when JAX
    changes how it draws.
    """
    shapes = jax.eval_shape(learner.init, jax.random.key(0), episode)

    def leaf(keys, shape):
        path, shape = path_of(keys), shape.shape
        noise = rng.normal(size=shape)
        if path.startswith("inner/"):
            return 0.1 * np.exp(0.3 * noise)
        if path.endswith("scale"):
            return 1 + 0.1 * noise
        if path.endswith("kernel"):
            return noise * np.prod(shape[:-1]) ** -0.5
        return 0.1 * noise

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def draw_direction(tree, rng):
    """Draws a tree of unit norm."""
    noise = jax.tree.map(lambda x: rng.normal(size=x.shape), tree)
    size = sum(np.sum(x**2) for x in jax.tree.leaves(noise)) ** 0.5
    return jax.tree.map(lambda x: x / size, noise)


@pytest.mark.parametrize(
    ("system", "volumes"),
    [
        ("maml", False),
        ("htmaml", False),
        pytest.param("htmaml", True, marks=pytest.mark.slow),
    ],
)
def test_meta_gradient_is_the_slope_of_the_loss(system, volumes):
    rng = np.random.default_rng(0)
    learner = tiny_volumes(system) if volumes else tiny(system)
    episode = draw_volumes(rng) if volumes else draw_episode(rng)
    worst = {}
    with jax.enable_x64(True):
        key = jax.random.key(0)
        meta = draw_meta(learner, episode, rng)
        # One program for slopes and values costs one compilation.
        value_and_grad = jax.jit(
            jax.value_and_grad(lambda m: learner.meta_loss(m, episode, key)[0])
        )
        _, gradient = value_and_grad(meta)
        assert all(x.dtype == jnp.float64 for x in jax.tree.leaves(gradient))
        for group in GROUPS[system]:
            for _ in range(DIRECTIONS):
                way = draw_direction(meta[group], rng)
                slope = sum(
                    float(np.vdot(g, d))
                    for g, d in zip(
                        jax.tree.leaves(gradient[group]),
                        jax.tree.leaves(way),
                        strict=True,
                    )
                )
                ends = []
                for sign in (1, -1):
                    there = jax.tree.map(
                        lambda x, d, s=sign: x + s * STEP * d,
                        meta[group],
                        way,
                    )
                    ends.append(value_and_grad({**meta, group: there})[0])
                measured = float(ends[0] - ends[1]) / (2 * STEP)
                error = abs(measured - slope) / abs(slope)
                worst[group] = max(worst.get(group, 0), error)
                print(f"{system} {group}: slope {slope:.3e}, off {error:.1e}")
    assert set(worst) == {k for k, v in meta.items() if jax.tree.leaves(v)}
    assert max(worst.values()) < 1e-6, worst
