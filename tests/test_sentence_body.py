"""A sentence encoder in the base network: where it starts, runs, errors."""

import shutil

import jax
import numpy as np
import pytest
from refusals import parsed, refused
from test_sentence import make_folder
from test_texts import write_own
from test_texts_run import arguments

from htmaml_jax import adapt, config, evaluate, limits, starts, train
from htmaml_jax.data import find, sentence
from htmaml_jax.episode import Batch
from htmaml_jax.run.optimizer import make_optimizer

FROZEN = "base/body/encoder/.*"
SENTENCE = {
    "net.kind": "sentence",
    "data.tokens": True,
    "outer.frozen": FROZEN,
    "outer.augment.noise": 0.0,
    "outer.augment.drop": 0.0,
    "inner.over": "(?!body/encoder).*",
    "hyper.rules": '(("body/encoder/layer._(query|into)/kernel", '
    '"lowrank(2)"), ("head/kernel", "rows"))',
}
TEXTS = ["where is my card please", "card", "", "my card please where is my"]


def learner_of(folder, system="htmaml"):
    """Returns a learner and its meta at step 0, for five tokens per text."""
    c = config.default()
    c.data.update(name="texts", encoder=str(folder), size=6, way=2, shot=2)
    config.choose(c, system)
    for path, value in SENTENCE.items():
        config.set_field(c, path, str(value))
    c.net.update(width=8, blocks=1)
    c.embed.dim = c.hyper.dim = 8
    limits.check(c)
    learner = evaluate.build(c, 2, known=3)
    init = jax.jit(learner.init)
    meta = init(jax.random.key(0), find.blank_episode(c.data))
    return learner, starts.install(meta, c)


def support_of(folder):
    tokens, cut = sentence.load(str(folder), 6).padded(TEXTS)
    assert cut.tolist() == [True, False, False, True]
    targets = np.array([0, 0, 1, 1], np.int32)
    return Batch(tokens, targets, np.ones(4, np.float32))


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_it_starts_as_the_frozen_encoder(tmp_path, family):
    folder = make_folder(tmp_path / "enc", family)
    learner, meta = learner_of(folder)
    support = support_of(folder)
    vectors, _ = sentence.load(str(folder), 6)(TEXTS)
    look = jax.jit(lambda m: learner.start(m, support, 0).theta)
    read = jax.jit(lambda base: learner.features(base, support))
    for base in (meta["base"], look(meta)):
        # 3 is where the scale of `VectorBody` starts.
        np.testing.assert_allclose(read(base) / 3, vectors, atol=1e-5)
    # V of every low-rank transform starts at zero; now adapters are there.
    meta["hyper"] = jax.tree.map(lambda x: x + 0.5, meta["hyper"])
    theta = look(meta)
    assert np.abs(read(theta) / 3 - vectors).max() > 1e-3
    same = theta["body"]["encoder"]["layer0_value"]["kernel"]
    wanted = meta["base"]["body"]["encoder"]["layer0_value"]["kernel"]
    np.testing.assert_array_equal(same, wanted)


@pytest.mark.parametrize("system", ["maml", "anil", "protonet", "prototype"])
def test_other_systems_take_it(tmp_path, system):
    learner, meta = learner_of(make_folder(tmp_path / "enc"), system)
    episode = find.blank_episode(learner.config.data)
    loss, _ = jax.eval_shape(
        learner.meta_loss, meta, episode, jax.random.key(0)
    )
    assert loss.shape == ()


def test_what_is_frozen_has_no_gradient_and_no_moments(tmp_path):
    learner, meta = learner_of(make_folder(tmp_path / "enc"), "protonet")
    support = support_of(tmp_path / "enc")
    blank = find.blank_episode(learner.config.data)
    episode = blank._replace(support=support, query=support)
    key = jax.random.key(0)
    slope = jax.jit(jax.grad(lambda m: learner.meta_loss(m, episode, key)[0]))
    body = slope(meta)["base"]["body"]
    assert not any(x.any() for x in jax.tree.leaves(body["encoder"]))
    assert any(x.any() for x in jax.tree.leaves(body["vector"]))
    optimizer = make_optimizer(learner.config.outer, 10)
    moments = sum(x.size for x in jax.tree.leaves(optimizer.init(meta)))
    base = meta["base"]
    parts = base["body"]["vector"], base["head"], meta["inner"]
    moving = sum(x.size for x in jax.tree.leaves(parts))
    assert 2 * moving <= moments <= 2 * moving + 2  # and counts of updates


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sentence")


@pytest.fixture(scope="module")
def run(place):
    own = write_own(place / "mine.csv")
    encoder = make_folder(place / "enc")
    fields = SENTENCE | {"train.steps": 4}
    train.main(arguments(own, encoder, place / "run", **fields))
    return place / "run"


@pytest.mark.slow
def test_a_run_through_the_doors(run, place):
    found = evaluate.evaluate(run)
    told = found["data"]["front_end"]
    assert (told["encoder"], told["length"]) == ("enc", 8)
    assert told["cut"] > 0
    _, meta, _ = evaluate.restore(run)
    params = sentence.load(str(place / "enc"), 8).params
    jax.tree.map(
        np.testing.assert_array_equal, meta["base"]["body"]["encoder"], params
    )
    model = adapt.load(run)
    specialist = model.adapt({"card": ["my card"], "where": ["where where"]})
    guesses = specialist.predict(["my card", "where where", "", "card " * 50])
    assert [g.name for g in guesses[:2]] == ["card", "where"]


@pytest.mark.slow
def test_an_encoder_that_is_missing_or_another(run, place):
    moved = place / "moved"
    shutil.copytree(place / "enc", moved)
    adapt.load(run, encoder=str(moved)).adapt({"a": ["my"], "b": ["card"]})
    refused(lambda: adapt.load(run, encoder="gone"), "'gone' is no folder")
    other = make_folder(place / "other", "xlm-roberta")
    refused(lambda: adapt.load(run, encoder=str(other)), "another encoder")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net.kind=sentence", ("data.tokens=True",)),
        ("net.kind=vector,data.tokens=True", ("data.tokens=False",)),
        (
            "net.kind=sentence,data.tokens=True,outer.augment.drop=0.1",
            ("outer.augment is not for tokens",),
        ),
    ],
)
def test_configs_that_cannot_work(text, words):
    text = f"data.name=liu,data.encoder=x,{text}"
    refused(lambda: limits.check(parsed(text)), *words)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 21])
def test_the_encoder_reads_so_many_tokens(place, run, size):
    data = config.default().data
    encoder = str(place / "enc")
    data.update(name="texts", dir=str(place / "mine.csv"), encoder=encoder)
    data.update(tokens=True, size=size)
    refused(lambda: find.load(data), f"data.size is {size}", "3 to 20 tokens")
