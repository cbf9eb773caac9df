"""Between languages: meta-gradients, macro-F1, and judging without labels."""

import json

import chex
import hate_tree
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_config import refused

from htmaml_jax import adapt, config, evaluate, limits, systems, train, transfer
from htmaml_jax.data import find
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.outer import losses

ROUNDS = [("eval.support", "pseudo"), ("eval.confidence", "0.5")]


def fields_of(system, **more):
    """Returns a config of vectors of four numbers, so that nets are tiny."""
    fields = config.default()
    fields.data.update(name="hate", encoder="x", size=4, way=2, shot=3, query=2)
    fields.eval.way = 2
    fields.net.update(kind="vector", output="labels", width=5, blocks=1)
    fields.embed.update(dim=8, layers=1)
    fields.hyper.update(dim=8, layers=1, dropout=0.0)
    config.choose(fields, system)
    fields.hyper.rules = (("body/.*norm.*", "affine"), ("head/.*", "rows"))
    for path, value in more.items():
        config.put(fields, path.replace("__", "."), value)
    limits.check(fields)
    return fields


def made(fields, queries="own"):
    """Returns a learner, its meta moved off the start, and an episode."""
    learner = systems.build(fields, 2, known=4)
    blank = find.blank_episode(fields.data)
    meta = jax.jit(learner.init)(jax.random.key(0), blank)
    rng = np.random.default_rng(1)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    meta = jax.tree.map(lambda x: x + 0.1 * normal(*x.shape), meta)

    def side(shot):
        inputs = jnp.asarray(normal(2 * shot, 4))
        targets = jnp.repeat(jnp.arange(2), shot)
        return Batch(inputs, targets, jnp.ones(2 * shot))

    second = side(2) if queries == "both" else None
    episode = Episode(side(3), side(2), 0, 0, jnp.arange(2), second)
    return learner, meta, episode


def loss_of(learner, params, batch):
    """Cross-entropy by the formula; no helper of the package."""
    logits = learner.network().apply({"params": params}, batch.inputs)
    odds = logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True)
    return -jnp.mean(odds[jnp.arange(len(batch.targets)), batch.targets])


def stepped(learner, base, batch, alpha, steps, first):
    """Takes plain gradient steps, one array of step sizes per leaf."""
    params = base
    for k in range(steps):
        grads = jax.grad(lambda p: loss_of(learner, p, batch))(params)
        if first:
            grads = jax.lax.stop_gradient(grads)
        params = jax.tree.map(
            lambda x, a, g, k=k: x - a[k] * g, params, alpha, grads
        )
    return params


@pytest.mark.parametrize("system", ["xmaml", "hatemaml"])
def test_meta_gradients_by_hand(system):
    """A step on one language, judged in another; five, judged in both."""
    fields = fields_of(system)
    learner, meta, episode = made(fields, fields.outer.domain_query)
    steps, first = (1, False) if system == "xmaml" else (5, True)

    def by_hand(base):
        alpha = meta["inner"]["alpha"]
        support = episode.support
        params = stepped(learner, base, support, alpha, steps, first)
        each = [loss_of(learner, params, episode.query)]
        if system == "hatemaml":
            each.append(loss_of(learner, params, episode.second))
        return sum(each) / len(each)

    def ours(base):
        key = jax.random.key(2)
        return learner.meta_loss(meta | {"base": base}, episode, key)[0]

    wanted = jax.jit(jax.value_and_grad(by_hand))(meta["base"])
    got = jax.jit(jax.value_and_grad(ours))(meta["base"])
    chex.assert_trees_all_close(got, wanted, rtol=2e-4, atol=1e-6)
    # The head knows its two classes apart.
    head = got[1]["head"]["kernel"]
    assert np.abs(head[:, 0] - head[:, 1]).max() > 1e-3


def test_joint_training_by_hand():
    """One network of all languages: support and query are examples alike."""
    learner, meta, episode = made(fields_of("finetune"))
    assert "joint" not in meta
    both = (episode.support, episode.query)
    both = jax.tree.map(lambda *x: jnp.concatenate(x), *both)
    key = jax.random.key(2)
    ours = jax.grad(lambda m: learner.meta_loss(m, episode, key)[0])
    got = jax.jit(ours)(meta)
    alone = jax.jit(jax.grad(lambda p: loss_of(learner, p, both)))
    wanted = alone(meta["base"])
    chex.assert_trees_all_close(got["base"], wanted, rtol=1e-4, atol=1e-6)
    assert not any(x.any() for x in jax.tree.leaves(got["inner"]))


@pytest.mark.slow
def test_a_generator_takes_part_in_both_losses():
    fields = fields_of("htmaml", outer__domain_query="both")
    learner, meta, episode = made(fields, "both")
    loss = jax.jit(lambda e: learner.meta_loss(meta, e, jax.random.key(0)))
    both, metrics = loss(episode)
    swapped = episode._replace(query=episode.second, second=episode.query)
    again, others = loss(swapped)
    np.testing.assert_allclose(both, again, rtol=1e-5)
    assert metrics["other_macro_f1"] == others["macro_f1"]
    one = [loss(x._replace(second=None))[0] for x in (episode, swapped)]
    np.testing.assert_allclose(both, sum(one) / 2, rtol=1e-5)


def test_named_classes_stay_what_they_are():
    """Swapping the labels of the support does not swap the answers."""
    learner, meta, episode = made(fields_of("maml"))
    support = episode.support
    swapped = support._replace(targets=1 - support.targets)
    adapt = jax.jit(learner.adapt)
    one, two = (adapt(meta, x) for x in (support, swapped))
    inputs = episode.query.inputs
    a, b = (learner.predict(x, inputs) for x in (one, two))
    assert np.abs(a - b[:, ::-1]).max() > 1e-2
    # Without any label the head answers as it has learned to.
    nothing = support._replace(mask=jnp.zeros(6))
    got = learner.predict(adapt(meta, nothing), inputs)
    plain = learner.network().apply({"params": meta["base"]}, inputs)
    np.testing.assert_allclose(got, plain, atol=1e-6)


def test_macro_f1_by_hand():
    """tp 2, fp 1, fn 1 and tp 1, fp 1, fn 1: (2/3 + 1/2) / 2."""
    guess, truth = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]
    mask = np.array([1, 1, 1, 1, 1, 0], np.float32)
    logits = np.eye(2)[guess]
    got = losses.macro_f1(logits, Batch(logits, np.array(truth), mask))
    np.testing.assert_allclose(got, (2 / 3 + 1 / 2) / 2, rtol=1e-6)
    # All of one class and guessed so: the other is not there to be missed.
    alone = Batch(logits[:3], np.zeros(3, int), np.ones(3))
    assert losses.macro_f1(logits[:3], alone) == 1
    # Never guessed, though there: F1 = 0 for it.
    wrong = Batch(logits[:3], np.array([0, 1, 1]), np.ones(3))
    np.testing.assert_allclose(losses.macro_f1(logits[:3], wrong), 0.25)


def test_what_a_model_is_sure_of():
    sure = np.array([0.99, 0.6, 0.95, 0.9, 0.2, 0.05, 0.1])
    odds = np.stack([sure, 1 - sure], axis=1)
    picked, guess = transfer.confident(odds, 0.85, 10)
    # Surest first, and as many of either class.
    assert picked.tolist() == [0, 2, 5, 6]
    assert guess.tolist() == [0, 0, 1, 1]
    picked, _ = transfer.confident(odds, 0.85, 1)
    assert picked.tolist() == [0, 5]
    assert not len(transfer.confident(odds[:4], 0.85, 10)[0])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return hate_tree.whole(tmp_path_factory.mktemp("hate"), 320)


@pytest.fixture(scope="module")
def run(tree, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "hatemaml"
    train.main(arguments(tree, workdir))
    return workdir


def arguments(tree, workdir, **more):
    values = {
        **tiny.UNCHANGED,
        "system": "hatemaml",
        "train.steps": 12,
        "data.name": "hate",
        "data.encoder": "ngrams",
        "data.size": 24,
        "data.train": "de+id",
        "data.validation": "fr",
        "data.test": "ar+hatecheck-nl",
        "data.domains": 5,
        "data.way": 2,
        "data.shot": 2,
        "data.query": 2,
        "eval.way": 2,
        "eval.shot": 2,
        "eval.query": 4,
        "eval.domain": "hate-ar",
        "net.kind": "ngrams",
        "net.output": "labels",
        "outer.joint_until": 0.0,
        "inner.over": "(?!body/(table|weights)).*",
        "outer.rate": 0.01,
        **more,
    }
    return tiny.arguments(tree, workdir, **values)


def test_few_shot_and_zero_shot_through_the_doors(run, tmp_path, capsys):
    few = json.loads((run / "result.json").read_text())
    assert few["benchmark"] == few["data"]["domain"] == "hate-ar"
    assert (few["metric"], few["variant"]) == ("macro_f1", "default")
    assert few["train"]["validation"]["macro_f1"] > 0.5
    for domain, support in (
        ("hate-ar", "train"),
        ("hatecheck-nl", "train"),
        ("hate-ar", "none"),
        ("hate-ar", "pseudo"),
    ):
        evaluate.main(
            [
                str(run),
                f"--config.eval.domain={domain}",
                f"--config.eval.support={support}",
                "--config.eval.confidence=0.5",
                f"--out={tmp_path}",
            ]
        )
    names = {str(x.relative_to(tmp_path)) for x in tmp_path.glob("*/*.json")}
    assert names == {
        "hate-ar/hatemaml+zero-shot-2w0s-s0.json",
        "hatecheck-nl/hatemaml+zero-shot-2w0s-s0.json",
        "hate-ar/hatemaml+unadapted-2w0s-s0.json",
        "hate-ar/hatemaml+self-training-2w0s-s0.json",
    }
    for name in names:
        found = json.loads((tmp_path / name).read_text())
        items = found["corpus"]["items"]
        # 640 test cases make three chunks, the last of them longer.
        assert found["episodes"] == len(found["values"]) == items // 200
        assert sum(found["corpus"]["by_class"]) == items
        assert 0 <= found["corpus"]["macro_f1"] <= 1
        assert few["episodes_id"] != found["episodes_id"]
    assert "on hatecheck-nl" in capsys.readouterr().out


def test_gold_labels_of_the_target_are_never_seen(run, tree, monkeypatch):
    """Other gold labels change what precision says, and nothing else."""
    said = []

    def watched(odds, *more):
        said.append(odds)
        return transfer_confident(odds, *more)

    transfer_confident = transfer.confident
    monkeypatch.setattr(transfer, "confident", watched)
    one = evaluate.evaluate(run, overrides=ROUNDS)
    first, plain = said.copy(), find.load

    def mixed_up(data):
        table = plain(data)
        mine = table.labels // 2 == table.domains.index("hate-ar")
        free = mine & (table.uses == 1)
        labels = table.labels.copy()
        labels[free] = np.random.default_rng(0).permutation(labels[free])
        object.__setattr__(table, "labels", labels)
        table.__dict__["fingerprint"] = one["data"]["fingerprint"]
        return table

    said.clear()
    monkeypatch.setattr(find, "load", mixed_up)
    two = evaluate.evaluate(run, overrides=ROUNDS)
    chex.assert_trees_all_equal(first, said)
    assert one["values"] == two["values"] and one["corpus"] == two["corpus"]
    rounds = [[r["precision"] for r in x["self_training"]] for x in (one, two)]
    assert len(rounds[0]) == 3
    assert rounds[0] != rounds[1]
    kept = [r["kept"] for r in one["self_training"]]
    assert all(0 < a == b <= 150 for a, b in kept)
    # A round's guesses change the next one's model.
    assert (first[0] != first[1]).any()


def test_precision_is_that_of_pseudo_labels(run, monkeypatch):
    found = evaluate.evaluate(run, overrides=ROUNDS)
    assert all(0 <= r["precision"] <= 1 for r in found["self_training"])
    # A model that is sure of nothing gets no pseudo-labels, and goes on.
    nothing = [*ROUNDS, ("eval.confidence", "0.999999")]
    found = evaluate.evaluate(run, overrides=nothing)
    zero = evaluate.evaluate(run, overrides=[("eval.support", "train")])
    kept = {tuple(r["kept"]) for r in found["self_training"]}
    assert kept == {(0, 0)}
    assert {r["precision"] for r in found["self_training"]} == {None}
    np.testing.assert_allclose(found["values"], zero["values"], atol=1e-4)


def test_auxiliary_texts_are_of_all_training_languages(tree):
    data = config.default().data
    data.update(name="hate", dir=str(tree), size=24, test="ar")
    data.update(train="de+id", validation="fr")
    table = find.load(data)
    batch = transfer.auxiliary(table, 4)
    rows = [
        int(np.flatnonzero((table.inputs == x).all(axis=1))[0])
        for x in batch.inputs
    ]
    names = [table.classes[i] for i in table.labels[rows]]
    labels = ["hateful", "neither"]
    assert [labels[i] for i in batch.targets] == [
        name.split("/")[1] for name in names
    ]
    assert sorted(names) == sorted(
        2 * [f"hate-{x}/{y}" for x in ("de", "id") for y in labels]
    )
    other = transfer.auxiliary(table, 4, seed=1)
    assert (batch.inputs != other.inputs).any()


def test_what_cannot_be_judged(run):
    def judged(**more):
        pairs = [(f"eval.{k}", v) for k, v in more.items()]
        return lambda: evaluate.evaluate(run, overrides=pairs)

    refused(judged(support="train", domain=""), "one domain", "hatecheck-nl")
    refused(judged(domain="hatecheck-nl"), "may be support", "eval.support")
    refused(judged(domain="hatecheck-nl", support="pseudo"), "no texts but")
    other = [("data.test", "ar")]
    refused(lambda: evaluate.evaluate(run, overrides=other), "data.test")


def test_a_model_of_named_classes_adapts_by_name(run):
    model = adapt.load(run)
    good, bad = hate_tree.GOOD, hate_tree.BAD
    few = {"neither": [f"{good} tea"], "hateful": [f"{bad} tea", f"{bad} x"]}
    guesses = model.adapt(few).predict([f"a {bad} {bad}", f"{good} {good}", ""])
    assert [g.name for g in guesses][:2] == ["hateful", "neither"]
    refused(lambda: model.adapt({"a": ["x"], "b": ["y"]}), "hateful, neither")
