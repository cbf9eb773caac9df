"""Queries of no class, names of intents as examples, and xSID."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from refusals import parsed, refused
from test_ngrams import arguments, own  # noqa: F401

from htmaml_jax import adapt, config, evaluate, limits, outside, train
from htmaml_jax.data import draw, find, sources, texts, xsid
from htmaml_jax.data.table import QUERY, SUPPORT, joined


def test_auroc_by_hand():
    """Of six pairs four are in order, and one is a tie: 4.5 / 6."""
    got = outside.auroc(np.array([0.9, 0.5]), np.array([0.1, 0.5, 0.6]))
    assert got == pytest.approx(4.5 / 6)
    assert outside.auroc(np.array([3.0, 2.0]), np.array([1.0])) == 1
    assert outside.auroc(np.array([1.0]), np.array([3.0, 2.0])) == 0
    assert outside.auroc(np.ones(5), np.ones(7)) == 0.5


@pytest.mark.slow
def test_what_is_out_of_scope_is_found(own, tmp_path, monkeypatch):  # noqa: F811
    """Texts of other words are told from the classes' own."""
    more = {"data.label_names": True, "system": "protonet"}
    train.main(arguments(own, tmp_path / "run", **more))
    plain = find.load

    def stranger(data):
        strange = [f"qqq www zzz {i} vvv kkk" for i in range(30)]
        made, _ = texts.inputs(strange, data)
        return dataclasses.replace(plain(data), outside=made)

    assert "out_of_scope" not in evaluate.evaluate(tmp_path / "run")
    monkeypatch.setattr(find, "load", stranger)
    found = evaluate.evaluate(tmp_path / "run")["out_of_scope"]
    assert (found["texts"], found["episodes"]) == (30, 60)
    assert found["auroc"]["probability"]["mean"] > 0.8
    assert found["auroc"]["logit"]["mean"] > 0.8
    json.dumps(found)
    # Whoever adapts gives the names of the classes, which are read.
    model = adapt.load(tmp_path / "run")
    few = {"wo_ist": ["x"], "بطاقتي": ["y"]}
    guesses = model.adapt(few).predict(["wo ist", "بطاقتي"])
    assert [g.name for g in guesses] == ["wo_ist", "بطاقتي"]


def test_out_of_scope_texts_of_clinc(real_data, monkeypatch):
    monkeypatch.setattr(
        texts,
        "inputs",
        lambda t, d: (np.zeros((len(t), 1), np.float32), {"stamp": ""}),
    )
    data = config.default().data
    data.update(name="clinc150", dir=str(real_data))
    assert find.load(data).outside.shape == (1000, 1)
    data.name = "banking77"
    assert find.load(data).outside is None


def test_names_are_in_every_support_and_no_query():
    assert texts.words("book_flight") == "book flight"
    assert texts.words("AddToPlaylist") == "Add To Playlist"
    assert texts.words("alarm/set_alarm") == "alarm set alarm"
    data = config.default().data
    data.update(name="texts", size=24, label_names=True)
    names = ("one_two", "three", "four")
    said = [f"{name} {n}" for name in names for n in range(6)]
    labels = [name for name in names for _ in range(6)]
    found = texts.Labelled(
        [*said, "Three", "one two"], [*labels, "four", "one_two"], "x", "none"
    )
    table = texts.table(found, "x", {"test": tuple(sorted(names))}, data)
    assert table.uses[-3:].tolist() == [0, 0, 0]
    assert table.uses[18:20].tolist() == [SUPPORT, SUPPORT]
    assert set(table.uses[:18]) == {SUPPORT | QUERY}
    shape = draw.Shape(2, 2, 3, 2, 1)
    pool = draw.make_pool(table, "test", shape)
    for index in range(50):
        drawn = draw.draw(np, pool, shape, 0, 2, index)
        assert drawn.support.shape == (2, 3)
        own_names = table.named_by[drawn.classes]
        np.testing.assert_array_equal(drawn.support[:, 0], own_names)
        assert drawn.support_mask[:, 0].all()
        assert (drawn.support[:, 1:] < 20).all() and (drawn.query < 18).all()
    data.label_names = False
    plain = texts.table(found, "x", {"test": tuple(sorted(names))}, data)
    assert plain.fingerprint != table.fingerprint
    assert plain.uses is None and len(plain.labels) == 20


@pytest.mark.parametrize(
    "text",
    [
        "data.label_names=True",
        "data.label_names=True,data.name=xsid,net.kind=ngrams",
    ],
)
def test_names_are_for_intents(text):
    refused(lambda: limits.check(parsed(text)), "data.label_names")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Two intents in four languages, one of them in two dialects.

    Both parts hold the first sentence, in English the same.
    """
    root = tmp_path_factory.mktemp("xsid")
    folder = root / "text_intent/xsid/data/xSID-0.7"
    folder.mkdir(parents=True)
    for language in ("en", "de", "it", "no"):
        for part in ("valid", "test"):
            blocks = []
            for n in range(24):
                intent = ("alarm/set", "weather")[n % 2]
                english = f"en {part} {intent} {n}" if n else "en both"
                # Numbers of German sentences say nothing, as Lithuanian ones.
                said = f"# id = {99 - n}\n# text-en = {english}\n"
                for dialect in range(2 if language == "no" else 1):
                    if language == "no":
                        said = f"# id = {n + 1}/{dialect}\n"
                    text = f"{language} {part} {intent} {n} d{dialect}"
                    if language == "en":
                        said, text = "", english
                    blocks.append(
                        f"{said}# text = {text}\n"
                        f"# intent = {intent}\n1\tx\ty\tO\n"
                    )
            rare = "# text = rare\n# intent = rare\n1\tx\ty\tO\n"
            path = folder / f"{language}.{part}.conll"
            path.write_text("\n".join([*blocks, rare]), "utf-8")
    return root


def test_sentences_in_other_languages(sentences):
    data = config.default().data
    data.update(name="xsid", dir=str(sentences), size=48)
    data.update(train="de", validation="it", test="no")
    table = find.load(data)
    assert table.splits["test"] == ("xsid-no/alarm/set", "xsid-no/weather")
    assert table.domains == ("xsid-de", "xsid-it", "xsid-no")
    assert [table.domains[i] for i in table.domain_of] == [
        name.split("/")[0] for name in table.classes
    ]
    # Both dialects of a sentence are one recording.
    mine = table.domain_of[table.labels] == 2
    assert mine.sum() == 48 and len(set(table.recordings[mine])) == 24
    shape = draw.Shape(2, 3, 5, 2, 3)
    pool = draw.make_pool(table, "test", shape)
    for index in range(20):
        drawn = draw.draw(np, pool, shape, 0, 2, index)
        heard = set(table.recordings[drawn.support].ravel())
        assert not heard & set(table.recordings[drawn.query].ravel())
    data.test = "xx"
    refused(lambda: find.load(data), "data.test is 'xx'")
    data.update(train="ar", test="no")
    refused(lambda: find.load(data), "ar.test.conll")


def test_translations_are_pairs(sentences):
    """Of training languages alone, and nothing that others are judged on."""
    data = config.default().data
    data.update(name="xsid", dir=str(sentences), size=80)
    data.update(train="en+de+no", validation="it", test="ar")
    for path in sentences.rglob("it.valid.conll"):
        path.with_name("ar.valid.conll").write_text(path.read_text())
    table = find.load(data)
    rows = table.rows_of("train")
    # 23 sentences in two languages and two dialects: not the first one.
    assert len(rows) == 23 * 4 and len(set(table.parallel[rows])) == 23
    shared, sample = sources.pairs(table, rows, 92)
    inputs, others, groups = sample(shared, jax.random.key(0))
    place = {x.tobytes(): i for i, x in enumerate(table.inputs)}
    mine, theirs = (
        np.array([place[x.tobytes()] for x in np.asarray(side)])
        for side in (inputs, others)
    )
    assert set(mine) | set(theirs) <= set(rows)
    np.testing.assert_array_equal(table.parallel[mine], groups)
    np.testing.assert_array_equal(table.parallel[theirs], groups)
    of = table.domain_of[table.labels]
    met = {(int(a), int(b)) for a, b in zip(of[mine], of[theirs], strict=True)}
    assert len(met) == 9  # all pairs of the three


def test_together_joins_what_is_linked():
    """Texts 0 1 1 2 3, sentences a a b b c: the first four are one."""
    got = joined(["t", "u", "u", "v", "w"], ["a", "a", "b", "b", "c"])
    assert len(set(got[:4])) == 1 and got[4] not in got[:4]


def test_no_sentence_of_xsid_is_met_twice(real_data):
    """Training languages have the test part, others the validation part."""
    data = config.default().data
    data.update(name="xsid", dir=str(real_data), size=8)
    data.update(train="en+de", validation="it", test="no+ar")
    table = find.load(data)
    assert len(table.splits["train"]) > 20
    counts = np.bincount(table.labels)
    assert counts.min() >= xsid.LEAST
    held = np.concatenate([table.rows_of(x) for x in ("validation", "test")])
    mine = table.parallel[table.rows_of("train")]
    assert not set(mine) & set(table.parallel[held])
