"""Several structures by networks that learned on one at a time."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_volumes
from tiny_volumes import batch_of, config_of

from htmaml_jax import adapt, systems, train
from htmaml_jax.data import find
from htmaml_jax.episode import Episode
from htmaml_jax.one_by_one import OneByOne
from htmaml_jax.run import look as looks


def drawn(seed):
    """Returns a Batch of two volumes that show two structures."""
    rng = np.random.default_rng(seed)
    batch = batch_of(rng.integers(0, 3, (2, 8, 8, 8)))
    noise = rng.normal(size=batch.inputs.shape).astype(np.float32)
    # Something is to be seen of them.
    return batch._replace(inputs=noise + 2 * batch.targets[..., None])


def trained(system, fields):
    """Returns (config, meta) as if all of meta had been learned."""
    config = config_of(system, **fields)
    learner = systems.build(config, 1, known=3)
    meta = learner.init(jax.random.key(0), find.blank_episode(config.data))
    leaves, tree = jax.tree.flatten(meta)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        x + 0.1 * jax.random.normal(k, x.shape)
        for x, k in zip(leaves, keys, strict=True)
    ]
    return config, jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize(
    ("system", "fields"),
    [
        (
            "htmaml",
            {"embed.control": "shuffled", "eval.strength": 0.5}
            | {"inner.rates": "task"},
        ),
        ("maml", {"inner.steps": 2, "eval.finetune": 2}),
        pytest.param("htmaml", {"net.norm": "support"}, marks=pytest.mark.slow),
        pytest.param("mmaml", {}, marks=pytest.mark.slow),
    ],
)
def test_each_structure_is_a_task_of_its_own(system, fields):
    config, meta = trained(system, fields)
    one, two = (systems.build(config, n) for n in (1, 2))
    both, query, other = drawn(0), drawn(1), drawn(2)

    @jax.jit
    def answers(meta, both, other):
        found = two.adapt(meta, both, read=other)
        return two.predict(found, query.inputs, query.mask)

    @jax.jit
    def alone(meta, both, other):
        found = one.adapt(meta, both, read=other)
        return one.predict(found, query.inputs, query.mask)

    found = answers(meta, both, other)
    assert found.shape == (2, 8, 8, 8, 2)
    for slot in (1, 2):
        only = [
            x._replace(targets=(x.targets == slot).astype(jnp.int32))
            for x in (both, other)
        ]
        wanted = alone(meta, *only)
        np.testing.assert_allclose(
            found[..., slot - 1], wanted[..., 0], rtol=1e-3, atol=1e-3
        )
    assert np.abs(found[..., 0] - found[..., 1]).max() > 0.1


@pytest.mark.parametrize(
    ("system", "learned", "asked", "apart"),
    [
        ("maml", 1, 1, False),
        ("maml", 1, 2, True),
        ("maml", 2, 2, False),
        ("maml", 2, 3, False),
        # Nearest prototypes: nothing to adapt.
        ("protonet", 1, 2, False),
    ],
)
def test_who_learned_on_several_answers_for_them_at_once(
    system, learned, asked, apart
):
    steps = int(system != "protonet")
    config = config_of(system, **{"data.way": learned, "inner.steps": steps})
    assert isinstance(systems.build(config, asked), OneByOne) == apart


@pytest.mark.parametrize("system", ["htmaml", "finetune"])
def test_a_look_shows_what_is_judged(system):
    """Also after joint training, whose head is made of all that it knows."""
    config, meta = trained(system, {"inner.steps": 2})
    learner = systems.build(config, 2, known=3)
    shapes = jax.eval_shape(
        learner.init, jax.random.key(0), find.blank_episode(config.data)
    )
    assert jax.tree.structure(shapes) == jax.tree.structure(meta)
    zero = jnp.zeros((), jnp.int32)
    episode = Episode(drawn(0), drawn(1), zero, zero)
    see = looks.make_look(
        learner, lambda _, x: jax.tree.map(lambda y: y[None], x)
    )
    _, found = see(meta, None, episode)
    score = jax.jit(learner.score)(meta, episode)
    assert found.scores.shape == (3,) and 0 < score < 1
    np.testing.assert_allclose(found.scores[-1], score, rtol=1e-4)
    assert found.outputs.shape == (3, 2, 8, 8, 8, 2)
    assert found.summary.size == found.tokens.size == 0 or system == "htmaml"


@pytest.mark.slow
def test_a_run_on_one_structure_answers_for_two(tmp_path):
    blocks = tiny_volumes.twelve(tmp_path / "blocks")
    run = tmp_path / "run"
    fields = {"system": "htmaml", "data.way": 1, "eval.way": 2}
    train.main(tiny_volumes.arguments(blocks, run, **fields))
    found = json.loads((run / "result.json").read_text())
    assert (found["way"], found["config"]["data"]["way"]) == (2, 1)
    told = found["surfaces"]["by_structure"]
    answers = sum(x["answers"] for x in told.values())
    assert answers == 2 * found["episodes"] * found["query"]
    image, mask = tiny_volumes.scan(100, 18)
    pair = (
        tiny_volumes.write(tmp_path / "a.nii.gz", image),
        tiny_volumes.write(tmp_path / "a_mask.nii.gz", mask),
    )
    specialist = adapt.load(run).adapt([pair], label=(4, 2))
    (said,) = specialist.predict([pair[0]])
    assert said.probability.shape == (*image.shape, 2)
    assert said.probability.sum(-1).max() <= 1 + 1e-5
    assert set(np.unique(said.mask)) <= {0, 2, 4}
