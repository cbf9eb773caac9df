"""Tasks that ask for several structures of a volume at once."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import optax
import pytest
import tiny_volumes

from htmaml_jax import adapt, cli, slices, surfaces, systems, train
from htmaml_jax.data import draw, find, sources, together
from htmaml_jax.embed.volume_encoder import VolumeEncoder
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.errors import UserError
from htmaml_jax.hyper import heads
from htmaml_jax.outer import losses, volumes

PAIR = draw.Shape(2, 1, 2, 2, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_volumes.decathlon(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def table(folder):
    data = cli.read_config("configs/seg3d.py", [])[0].data
    data.unlock()
    data.update(name="decathlon", dir=str(folder), side=8, spacing=2.0)
    return find.load(data)


def test_sets_are_of_structures_that_are_seen_together(table):
    (found,) = together.sets_of(table, "train", 2, 1, 2)
    assert found.members == (0, 1)
    classes = table.of_split("train")
    assert (table.labels[found.rows] == classes[0]).all()
    for row in found.rows:
        shown = set(together.shown(table.masks.masks[row]) - 1)
        assert set(classes) <= shown
    # The same volumes with the second structure in two of them alone.
    masks = table.masks.masks.copy()
    masks[found.rows[2:]] *= masks[found.rows[2:]] != classes[1] + 1
    few = table.__class__(
        **{
            **{f: getattr(table, f) for f in table.__dataclass_fields__},
            "masks": table.masks._replace(masks=masks),
        }
    )
    (one,) = together.sets_of(few, "train", 2, 1, 1)
    np.testing.assert_array_equal(one.rows, found.rows[:2])
    with pytest.raises(UserError, match="no 2 structures of 'train'.*blocks"):
        together.sets_of(few, "train", 2, 1, 2)


@pytest.mark.parametrize("loader", ["device", "tfdata"])
def test_episodes_number_their_structures(table, loader):
    if loader == "tfdata":
        pytest.importorskip("tensorflow")
    source = find.source(table, PAIR, "train", 3, loader)
    piece = next(source.pieces(0, 5))
    made = jax.device_get(jax.jit(source.episodes)(source.shared, piece))
    rows, classes = sources.asked(table, PAIR, 3, "train", 5)
    assert rows.shape == (5, 1, 2) and classes.shape == (5, 2)
    assert made.query.targets.shape == (5, 2, 8, 8, 8)
    for at in range(5):
        masks = table.masks.masks[rows[at, 0]]
        for slot, label in enumerate(classes[at], 1):
            np.testing.assert_array_equal(
                made.query.targets[at] == slot, masks == label + 1
            )
    of_split = table.of_split("train")
    np.testing.assert_array_equal(of_split[made.classes], classes)


def random_batch(way, count=2, side=4):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, way + 1, (count, side, side, side))
    logits = rng.normal(size=(count, side, side, side, way))
    inputs = np.zeros((*targets.shape, 1), np.float32)
    batch = Batch(inputs, jnp.asarray(targets, jnp.int32), jnp.ones(count))
    return jnp.asarray(2 * logits, jnp.float32), batch


def test_of_one_structure_the_loss_is_that_of_a_sigmoid():
    logits, batch = random_batch(1)
    truth = batch.targets[..., None].astype(jnp.float32)
    overlap = optax.losses.dice_loss(logits, truth, axis=(1, 2, 3))
    each = optax.losses.sigmoid_binary_cross_entropy(logits, truth)
    balanced = [
        jnp.sum(part * each, (1, 2, 3, 4)) / jnp.sum(part, (1, 2, 3, 4))
        for part in (truth, 1 - truth)
    ]
    wanted = {
        True: jnp.mean(overlap + sum(balanced) / 2),
        False: jnp.mean(overlap) + jnp.mean(each),
    }
    for kind, value in wanted.items():
        found = losses.dice_cross_entropy(logits, batch, kind)
        np.testing.assert_allclose(found, value, rtol=1e-5)
    # Inner steps hear of a small structure; guesses of it cost.
    voxels = losses.PROBLEMS["voxels"]
    for loss, kind in ((voxels.inner, True), (voxels.loss, False)):
        np.testing.assert_allclose(loss(logits, batch), wanted[kind], 1e-5)
    np.testing.assert_allclose(
        losses.log_odds_of_structures(logits),
        jax.nn.log_sigmoid(logits),
        atol=1e-5,
    )


@pytest.mark.parametrize("way", [2, 3])
def test_loss_and_dice_of_several_structures(way):
    logits, batch = random_batch(way)
    found = np.asarray(losses.structures(logits))
    dices = []
    for i, k in itertools.product(range(2), range(1, way + 1)):
        one, two = found[i] == k, np.asarray(batch.targets[i]) == k
        dices.append(2 * (one & two).sum() / (one.sum() + two.sum()))
    score = losses.dice(logits, batch)
    np.testing.assert_allclose(score, np.mean(dices), rtol=1e-5)
    sure = 30.0 * (jax.nn.one_hot(batch.targets, way + 1)[..., 1:] - 0.5)
    assert losses.dice(sure, batch) == 1
    assert losses.dice_cross_entropy(sure, batch) < 1e-3
    # Renamed structures have the same loss, mistaken ones a larger one.
    turned = jnp.where(batch.targets > 0, 1 + batch.targets % way, 0)
    other = batch._replace(targets=turned)
    renamed = jnp.roll(logits, 1, axis=-1)
    for balanced in (True, False):
        np.testing.assert_allclose(
            losses.dice_cross_entropy(renamed, other, balanced),
            losses.dice_cross_entropy(logits, batch, balanced),
            rtol=1e-5,
        )
    assert losses.dice_cross_entropy(sure, other) > 1


def test_heads_and_tokens_follow_their_structures():
    _, batch = random_batch(2)
    features = jax.random.normal(jax.random.key(0), (2, 4, 4, 4, 6))
    head = heads.contrast(features, batch, 2)
    flat, targets = features.reshape(2, -1, 6), batch.targets.reshape(2, -1)
    centres = [
        np.mean([flat[i][targets[i] == k].mean(0) for i in (0, 1)], 0)
        for k in range(3)
    ]
    back, *fronts = (jnp.sum((features - c) ** 2, -1) for c in centres)
    found = features @ head["kernel"] + head["bias"]
    for slot, front in enumerate(fronts):
        np.testing.assert_allclose(
            found[..., slot], back - front, rtol=1e-3, atol=1e-4
        )
    encoder = VolumeEncoder(dim=8)
    params = encoder.init(jax.random.key(0), batch, 2, features)
    turned = jnp.where(batch.targets > 0, 3 - batch.targets, 0)
    one, two = (
        encoder.apply(params, batch._replace(targets=t), 2, features)
        for t in (batch.targets, turned)
    )
    assert one.tokens.shape == (3, 8)
    assert jnp.abs(one.tokens[0] - one.tokens[1]).max() > 1e-2
    order = jnp.array([1, 0, 2])
    np.testing.assert_allclose(one.tokens, two.tokens[order], atol=1e-5)
    np.testing.assert_allclose(one.summary, two.summary, atol=1e-5)


def test_structures_are_bent_with_their_image():
    mask = np.zeros((12, 12, 12), np.int32)
    mask[2:6, 3:9, 3:9], mask[6:10, 3:9, 3:9] = 1, 2
    image = np.stack([mask == 1, mask == 2], -1).astype(np.float32)
    bend = jax.jit(lambda k: volumes.bend(image, mask, k, 2, 0.1, 0.05))
    made, labels = bend(jax.random.key(0))
    assert labels.dtype == mask.dtype and (labels != mask).any()
    # A cell is of what it has most of.
    rest = 1 - made.sum(-1, keepdims=True)
    most = jnp.concatenate([rest, made], -1).argmax(-1)
    np.testing.assert_array_equal(labels, most)


def test_sections_of_each_structure():
    masks = np.zeros((1, 8, 8, 8), np.uint8)
    masks[0, :4, 2:6, 2:6], masks[0, 4:, 2:6, 2:6] = 1, 2
    found = np.stack([0 * masks, np.where(masks == 2, 2, 0)])[None]
    query = Batch(np.zeros((1, 8, 8, 8, 1)), masks, np.ones(1))
    episode = Episode(None, query, 0, 0, np.array([3, 1]))
    made = slices.figures(found, [episode], ["a", "b", "c", "d"])
    said = {
        name: figure.axes[0].texts[0].get_text()
        for name, figure in made.items()
    }
    assert said == {
        "volumes-b": "best: Dice 0.00, then 1.00",
        "volumes-d": "best: Dice 0.00, then 0.00",
    }


@pytest.mark.parametrize("system", ["htmaml", "mmaml", "cnaps", "finetune"])
def test_systems_learn_for_one_and_answer_for_several(system):
    """Shapes alone: meta does not know how many structures there are."""
    argument = ",".join(
        f"{name}={value}"
        for name, value in (tiny_volumes.FIELDS | {"system": system}).items()
    )
    metas = []
    for way in (1, 3):
        config, _ = cli.read_config(
            f"configs/seg3d.py:{argument},way={way}", []
        )
        learner = systems.build(config, way, known=4)
        episode = find.blank_episode(config.data)
        key = jax.random.key(0)
        meta = jax.eval_shape(learner.init, key, episode)
        metas.append(jax.tree.map(lambda x: x.shape, meta))

        def loss(meta, episode, learner=learner, key=key):
            return learner.meta_loss(meta, episode, key)[0]

        jax.eval_shape(jax.grad(loss), meta, episode)
        answers = functools.partial(surfaces.answers, learner)
        score, found, _ = jax.eval_shape(answers, meta, episode)
        assert score.shape == () and found.shape == (1, 8, 8, 8)
    assert metas[0] == metas[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on two structures at once, of twelve."""
    root = tmp_path_factory.mktemp("twelve")
    tiny_volumes.twelve(root / "blocks")
    fields = {"system": "htmaml", "data.way": 2, "eval.way": 2}
    train.main(tiny_volumes.arguments(root / "blocks", root / "run", **fields))
    return root / "run"


@pytest.mark.slow
def test_a_run_on_two_structures_at_once(run):
    found = json.loads((run / "result.json").read_text())
    assert (found["way"], found["metric"]) == (2, "dice")
    told = found["surfaces"]["by_structure"]
    assert len(told) == 3  # of the test, each with any of the others
    # Every volume is asked for both.
    answers = sum(x["answers"] for x in told.values())
    assert answers == 2 * found["episodes"] * found["query"]


@pytest.mark.slow
def test_adapting_to_several_labels(run, tmp_path):
    model = adapt.load(run)
    image, mask = tiny_volumes.scan(100, 18)
    pair = (
        tiny_volumes.write(tmp_path / "a.nii.gz", image),
        tiny_volumes.write(tmp_path / "a_mask.nii.gz", mask),
    )
    specialist = model.adapt([pair], label=(4, 2))
    (found,) = specialist.predict([pair[0]])
    assert found.probability.shape == (*image.shape, 2)
    assert found.probability.min() >= 0
    assert found.probability.sum(-1).max() <= 1 + 1e-5
    assert set(np.unique(found.mask)) <= {0, 2, 4}
    # The likeliest, the background included.
    four, two = np.moveaxis(found.probability, -1, 0)
    ahead = (four > two) & (four > 1 - four - two)
    np.testing.assert_array_equal(found.mask == 4, ahead)
    found.save(tmp_path / "out.nii.gz")
    written = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), found.mask)
    with pytest.raises(UserError, match="does not show the label 9"):
        model.adapt([pair], label=[2, 9])
    with pytest.raises(UserError, match="each once"):
        model.adapt([pair], label=[2, 2])
