"""What `evaluate --pictures` looks at and draws."""

import types

import jax
import numpy as np
import pytest
import tiny
from PIL import Image
from test_exchange import batch_of

from htmaml_jax import evaluate, maps, pictures, train
from htmaml_jax.episode import Episode


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("look")
    clips = tiny.write_clips(root / "clips")
    for folder in sorted(clips.iterdir()):  # what would be a formula
        folder.rename(clips / f"{folder.name}$^$")
    fields = {"system": "htmaml", "train.steps": 3}
    train.main(tiny.arguments(clips, root / "run", **fields))
    return root / "run"


def episode_of(targets, classes):
    batch = batch_of(np.zeros((len(targets), 1)), targets)
    return Episode(batch, batch, 0, 0, np.array(classes))


def test_confusion_counts_classes_not_slots():
    episodes = [episode_of([0, 1, 1], [4, 2]), episode_of([0, 1], [2, 0])]
    said = [np.array([0, 0, 1]), np.array([1, 1])]
    width = max(map(len, said))
    outputs = [np.eye(2)[s] for s in said]
    counts = pictures.confusion_counts(outputs, episodes, 5)
    wanted = np.zeros((5, 5))
    wanted[4, 4] = wanted[2, 4] = wanted[2, 2] = 1
    wanted[2, 0] = wanted[0, 0] = 1
    np.testing.assert_array_equal(counts, wanted)
    # Padding is no query.
    padded = episodes[0]._replace(
        query=episodes[0].query._replace(mask=np.array([1, 0, 1.0]))
    )
    counts = pictures.confusion_counts(outputs[:1], [padded], 5)
    assert counts.sum() == width - 1 and counts[2, 4] == 0


def test_class_tokens_are_averaged_over_tasks():
    tokens = np.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    episodes = [episode_of([0], [4, 2]), episode_of([0], [2, 0])]
    means, met = maps.class_means(tokens, episodes)
    np.testing.assert_array_equal(means[:, 0], [4.0, 2.5, 1.0])
    np.testing.assert_array_equal(met, [0, 2, 4])


def test_classes_bear_their_names_on_the_map():
    rng = np.random.default_rng(0)
    tasks = rng.normal(size=(9, 4)), ["frogs"] * 9
    names = ["frogs: ant", "bee", "cow"]
    classes = rng.normal(size=(3, 4)), ["frogs"] * 3, names
    figure = maps.figure(tasks, classes)
    said = [[x.get_text() for x in axes.texts] for axes in figure.axes]
    assert said == [[], ["ant", "bee", "cow"]]


def test_tasks_of_volumes_are_told_by_structure_while_they_are_few():
    table = types.SimpleNamespace(domains=["brains"])
    names = np.array([f"structure {i}" for i in range(30)])

    def kinds(count, structures=names):
        asked = [episode_of([0], [i, i + 1]) for i in range(count)]
        return maps.kinds(table, asked, structures)

    pairs = ["structure 0 and structure 1", "structure 1 and structure 2"]
    assert kinds(2) == pairs
    assert kinds(11) == ["brains"] * 11
    assert kinds(2, None) == ["brains"] * 2


def test_plane_keeps_distances_of_what_lies_in_one():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(20, 2))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    got, share = maps.plane(flat @ turn)

    def apart(x):
        return np.linalg.norm(x[:, None] - x[None], axis=-1)

    np.testing.assert_allclose(apart(got), apart(flat), atol=1e-6)
    assert share.sum() == pytest.approx(1)
    assert not maps.plane(np.ones((5, 3)))[0].any()


@pytest.mark.slow
def test_door_draws_what_it_judged(run, capsys):
    evaluate.main([str(run), "--pictures", "--config.eval.episodes=12"])
    said = capsys.readouterr().out
    for name in ("steps", "confusion", "episode", "embeddings"):
        path = run / "pictures" / f"{name}.png"
        assert f"drawn: {path}" in said
        assert np.ptp(np.asarray(Image.open(path).convert("L"))) > 100


@pytest.mark.slow
@pytest.mark.parametrize(("tuned", "strength"), [(0, 1.0), (2, 1.0), (0, 0.0)])
def test_the_last_step_is_what_is_judged(run, tuned, strength):
    from htmaml_jax.data import find
    from htmaml_jax.data.table import Scale
    from htmaml_jax.run import look

    wanted = [("eval.episodes", "4"), ("eval.finetune", str(tuned))]
    wanted += [("eval.strength", str(strength))]
    result = evaluate.evaluate(run, overrides=wanted)
    info, meta, config = evaluate.restore(run, overrides=wanted)
    table = find.load(config.data).standardised(Scale(*info["data"]["scale"]))
    shape = find.fixed_shape(config.eval)
    source = find.source(table, shape, "test", 0, "device")
    learner = evaluate.build(config, config.eval.way)
    see, pieces = look.make_look(learner, source.episodes), source.pieces(0, 1)
    every = [see(meta, source.shared, next(pieces))[1] for _ in range(4)]
    seen = jax.tree.map(lambda *x: np.stack(x), *every)
    count = config.inner.steps + 1 + (tuned > 0)
    assert seen.scores.shape == (4, count)
    np.testing.assert_allclose(seen.scores[:, -1], result["values"], atol=1e-4)
    # The generator sees every task in another way.
    assert np.ptp(np.asarray(seen.summary), axis=0).max() > 0
