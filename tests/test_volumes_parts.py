"""What learners of volumes are made of: losses, prototypes, the U-Net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_volumes import batch_of, config_of

from htmaml_jax import fillings, systems
from htmaml_jax.data import find
from htmaml_jax.embed.volume_encoder import VolumeEncoder, shrink
from htmaml_jax.hyper import heads
from htmaml_jax.outer import losses


def test_dice_and_its_loss():
    masks = np.zeros((2, 4, 4, 4), int)
    masks[0, :2], masks[1, 1] = 1, 1
    batch = batch_of(masks)
    sure = 20.0 * (2 * masks - 1)[..., None]
    assert losses.dice(sure, batch) == 1
    assert losses.dice_cross_entropy(sure, batch) < 1e-3
    # Half of the first structure is found, and nothing of the second.
    part = sure.copy()
    part[0, 1], part[1, 1] = -20, -20
    assert losses.dice(part, batch) == pytest.approx((2 / 3 + 0) / 2)
    masked = batch._replace(mask=jnp.array([1.0, 0.0]))
    assert losses.dice(part, masked) == pytest.approx(2 / 3)
    worse = losses.dice_cross_entropy(part, batch)
    assert worse > losses.dice_cross_entropy(0.1 * sure, batch) > 0.1
    assert jnp.isfinite(
        jax.grad(lambda x: losses.dice(x, batch) + x.sum())(
            jnp.zeros_like(sure)
        )
    ).all()


def test_encoder_sees_what_is_inside_and_what_is_outside():
    """Features inside change the foreground's token, order changes nothing."""
    masks = np.zeros((2, 4, 4, 4), int)
    masks[:, :2, :2, :2] = 1
    batch = batch_of(masks)
    features = jax.random.normal(jax.random.key(0), (2, 4, 4, 4, 3))
    encoder = VolumeEncoder(dim=8)
    params = encoder.init(jax.random.key(0), batch, 1, features)
    plain = encoder.apply(params, batch, 1, features)
    assert plain.tokens.shape == (2, 8) and plain.valid.all()
    inside = features.at[:, 0, 0, 0].add(5.0)
    seen = encoder.apply(params, batch, 1, inside)
    assert jnp.abs(seen.tokens[0] - plain.tokens[0]).max() > 1e-3
    np.testing.assert_allclose(seen.tokens[1], plain.tokens[1], atol=1e-5)
    turned = jax.tree.map(lambda x: x[::-1], batch)
    again = encoder.apply(params, turned, 1, features[::-1])
    np.testing.assert_allclose(again.summary, plain.summary, atol=1e-5)
    other = batch._replace(targets=1 - batch.targets)
    assert (
        jnp.abs(
            encoder.apply(params, other, 1, features).summary - plain.summary
        ).max()
        > 1e-3
    )
    # Label-blind: masks change nothing.
    blind = VolumeEncoder(dim=8, blind=True)
    params = blind.init(jax.random.key(0), batch, 1, features)
    one, two = (
        blind.apply(params, x, 1, features).summary for x in (batch, other)
    )
    np.testing.assert_array_equal(one, two)
    # Padding changes nothing.
    padded = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), batch)
    padded = padded._replace(mask=jnp.array([1.0, 1.0, 0.0]))
    more = jnp.concatenate([features, 9 + features[:1]])
    params = encoder.init(jax.random.key(0), batch, 1, features)
    found = encoder.apply(params, padded, 1, more)
    np.testing.assert_allclose(
        found.summary,
        encoder.apply(params, batch, 1, features).summary,
        atol=1e-5,
    )


def test_a_head_from_both_sides_of_a_mask_is_the_nearer_prototype():
    masks = np.zeros((3, 4, 4, 4), int)
    masks[0, :2], masks[1, 1:], masks[2] = 1, 1, 1
    batch = batch_of(masks)._replace(mask=jnp.array([1.0, 1.0, 0.0]))
    features = jax.random.normal(jax.random.key(0), (3, 4, 4, 4, 6))
    head = heads.contrast(features, batch)
    found = features @ head["kernel"] + head["bias"]
    # By hand: means inside and outside of each real volume, then over both.
    centres = []
    for side in (1, 0):
        each = [np.asarray(features)[i][masks[i] == side] for i in (0, 1)]
        centres.append(np.mean([x.mean(0) for x in each], 0))
    front, back = (np.sum((features - c) ** 2, -1) for c in centres)
    np.testing.assert_allclose(found[..., 0], back - front, rtol=1e-4)


def test_what_structures_have_in_common_is_added_to_prototypes():
    """At first there is nothing; protonet has no generator to change it."""
    config = config_of("protonet", **{"hyper.sharpness": 3.0})
    learner = systems.build(config, 1)
    rng = np.random.default_rng(0)
    blank = find.blank_episode(config.data)
    support = blank.support._replace(
        inputs=rng.normal(size=blank.support.inputs.shape).astype("f4"),
        targets=rng.integers(0, 2, blank.support.targets.shape),
        mask=np.ones_like(blank.support.mask),
    )
    meta = learner.init(jax.random.key(0), blank)
    made = learner.prototypes(meta["base"], support)
    head = learner.start(meta, support, 0).theta["head"]
    jax.tree.map(np.testing.assert_array_equal, head, made)
    assert np.abs(made["kernel"]).max() > 0.01
    common = jax.tree.map(lambda x: x + 0.5, meta["base"]["head"])
    meta["base"]["head"] = common
    head = learner.start(meta, support, 0).theta["head"]
    expected = jax.tree.map(lambda x: x + 0.5, made)
    jax.tree.map(np.testing.assert_array_equal, head, expected)


def test_masks_shrink_to_shares():
    masks = np.zeros((1, 4, 4, 4), int)
    masks[0, 0, 0, 0] = masks[0, 2:, 2:, 2:] = 1
    found = shrink(jnp.asarray(masks), jnp.zeros((1, 2, 2, 2, 5)))
    assert found.shape == (1, 2, 2, 2)
    assert found[0, 0, 0, 0] == 1 / 8 and found[0, 1, 1, 1] == 1
    assert found.sum() == 9 / 8


def test_blocks_of_voxels_keep_every_voxel_apart():
    """With net.down=stem outputs are as large as inputs, and differ."""
    config = config_of("maml", **{"net.down": "stem"})
    body = fillings.body(config)
    inputs = jax.random.normal(jax.random.key(0), (1, 8, 8, 8, 1))
    made, _ = body.init_with_output(jax.random.key(1), inputs)
    assert made.shape == (1, 8, 8, 8, 8)
    cells = made[0, :2, :2, :2].reshape(8, -1)
    assert len(np.unique(np.asarray(cells), axis=0)) > 1


def test_a_residual_level_adds_what_it_is_given():
    """With nothing from its norm layers, a level passes on its input."""
    more = {"net.down": "pool", "net.residual": True}
    body = fillings.body(config_of("maml", **more))
    inputs = jax.random.normal(jax.random.key(0), (1, 8, 8, 8, 1))
    params = body.init(jax.random.key(1), inputs)["params"]
    name = "norm_down0_1"
    params[name] = jax.tree.map(jnp.zeros_like, params[name])
    made = body.apply({"params": params}, inputs)
    by = params["conv_down0_by"]
    kernel = by["kernel"].reshape(1, -1)
    wanted = jax.nn.relu(inputs @ kernel + by["bias"])
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    plain = fillings.body(config_of("maml", **{"net.down": "pool"}))
    plain = plain.init(jax.random.key(1), inputs)["params"]
    assert set(params) - set(plain) == {"conv_down0_by"}


@pytest.mark.slow
def test_coarse_levels_answer_for_the_middle_of_each_cell():
    """Levels that say the same everywhere have the loss of that answer."""
    more = {"net.blocks": 4, "data.side": 16, "inner.steps": 0}
    more |= {f"outer.augment.{x}": 0.0 for x in ("flip", "turn")}
    deep, plain = (
        systems.build(config_of("maml", **more, **{"net.deep": x}), 1)
        for x in (True, False)
    )
    episode = jax.tree.map(jnp.asarray, find.blank_episode(deep.config.data))
    masks = jax.random.bernoulli(jax.random.key(2), 0.4, (1, 16, 16, 16))
    query = episode.query._replace(targets=masks.astype(jnp.int32))
    episode, key = episode._replace(query=query), jax.random.key(0)
    meta = jax.jit(deep.init)(key, episode)
    body, head = (meta["base"][x] for x in ("body", "head"))
    without = {k: x for k, x in body.items() if not k.startswith("deep")}
    less = {**meta, "base": {"body": without, "head": head}}
    wanted, _ = jax.jit(plain.meta_loss)(less, episode, key)
    # With net.down=stem the first level has cells of 4 voxels, not of 2.
    for level, middle, weight in ((1, 2, 0.5), (2, 4, 0.25)):
        layer = body[f"deep{level}"]
        layer["kernel"] = jnp.zeros_like(layer["kernel"])
        layer["bias"] = level * jnp.arange(8.0)
        answer = layer["bias"] @ head["kernel"] + head["bias"]
        at = slice(middle, None, 2 * middle)
        cells = query._replace(targets=query.targets[:, at, at, at])
        outputs = jnp.broadcast_to(answer, (*cells.targets.shape, 1))
        wanted += weight * losses.dice_cross_entropy(outputs, cells)
    slope = jax.jit(jax.grad(deep.meta_loss, has_aux=True))
    grads, metrics = slope(meta, episode, key)
    np.testing.assert_allclose(metrics["loss"], wanted / 1.75, rtol=1e-5)
    for level in ("deep1", "deep2"):
        assert float(jnp.abs(grads["base"]["body"][level]["bias"]).max()) > 0
