"""Hate speech: what is read, who may be support, and what a task holds."""

import chex
import hate_tree
import jax
import numpy as np
import pytest
from refusals import parsed, refused

from htmaml_jax import config, limits
from htmaml_jax.data import draw, find, hate, hate_sets
from htmaml_jax.data.ngrams import plain
from htmaml_jax.data.table import QUERY, SUPPORT

HATE = "data.name=hate,net.kind=ngrams,net.output=labels,way=2,"


def fields(place, **more):
    data = config.default().data
    data.update(name="hate", dir=str(place), size=24, way=2, shot=3, query=4)
    data.update(train="de+id", validation="fr", test="ar+hatecheck-nl")
    data.update(more)
    return data


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return hate_tree.whole(tmp_path_factory.mktemp("hate"))


@pytest.fixture(scope="module")
def small(tree):
    return find.load(fields(tree))


def test_every_scheme_becomes_two_labels(tmp_path):
    """What `hate_sets` says of each, value by value."""
    write = hate_tree.table
    davidson = [("a", 0), ("b", 1), ("c", 2)]
    path = tmp_path / "en_davidson/data/labeled_data.csv"
    write(path, "tweet class", davidson)
    marks = {"d": "hate", "e": "noHate", "f": "relation", "g": "idk/skip"}
    path = tmp_path / "en_stormfront/annotations_metadata.csv"
    write(path, "file_id label", list(marks.items()))
    with hate_sets.zipfile.ZipFile(path.parent / "all_files.zip", "w") as out:
        for name in marks:
            out.writestr(f"all_files/{name}.txt", name)
    mixed = [("h", "normal"), ("i", "offensive"), ("j", "normal_fearful")]
    hate_tree.mlma(tmp_path, en=mixed)
    hate_tree.german(tmp_path, [("k |LBR| k", "OFFENSE"), ("l", "OTHER")])
    kinds = "text homophobia obscene insult racism misogyny xenophobia"
    votes = [("m", 0, 2.0), ("n", 1.0, 1.0), ("o", 0, 0), ("p", 3.0, 0)]
    rows = [(*row, 0, 0, 0, 0) for row in votes]
    write(tmp_path / "pt_toldbr/ToLD-BR.csv", kinds, rows)
    path = tmp_path / "pt_hatebr/dataset/HateBR.csv"
    write(path, "comentario label_final", [("q", 1), ("r", 0)])
    path = tmp_path / "id_okky/re_dataset.csv"
    rows = [("s", 1, 0), ("t", 0, 1), (r"u\n\xf0\x9f\x98\x80", 0, 0)]
    write(path, "Tweet HS Abusive", rows)
    rows = [("v", "HATE"), ("w", "OFFN"), ("x", "PRFN"), ("y", "NOT")]
    hate_tree.marathi(tmp_path, rows)
    for name in ("Hi", "Mr"):
        path = tmp_path / f"himr_hateeval/HateEval/HateEval-{name}.csv"
        write(path, "tweet label", [(f"1{name}", 1), (f"0{name}", 0)])
    for part in ("train", "dev", "test"):
        path = tmp_path / f"zh_cold/COLDataset/{part}.csv"
        write(path, "TEXT label", [(f"1{part}", 1), (f"0{part}", 0)])
    rows = [("A", "hateful"), ("B", "non-hateful")]
    hate_tree.hatecheck(tmp_path, "polish", rows)
    said = {
        "en": {**dict.fromkeys("abdij", True), **dict.fromkeys("ceh", False)},
        "de": {"k k": True, "l": False},
        "pt": {"m": True, "o": False, "p": True, "q": True, "r": False},
        "id": {"s": True, "t": True, "u 😀": False},
        "mr": {**dict.fromkeys([*"vwx", "1Mr"], True), "y": False},
        "hi": {"1Hi": True, "0Hi": False},
        "zh": {"1dev": True, "0dev": False, "0test": False, "1train": True},
        "hatecheck-pl": {"A": True, "B": False},
    }
    said["mr"]["0Mr"] = False
    said["zh"] |= {"0train": False, "1test": True}
    for language, wanted in said.items():
        found, licences = hate._language(tmp_path, language, set(), 0)
        assert dict(found) == wanted
        assert licences
    write(tmp_path / "zh_cold/COLDataset/dev.csv", "TEXT label", [("a", 7)])
    refused(lambda: hate._language(tmp_path, "zh", set(), 0), "label is '7'")


def test_handles_are_taken_out():
    text = "@some_one RT @b1: see https://x.y/z &amp; USER  URL @url"
    assert hate.clean(text) == "@user RT @user: see url & @user url url"
    assert hate.clean(" \n ") == ""


def test_a_text_is_there_once(tmp_path):
    """Copies differ in case, handles and blanks; tests keep what they have."""
    one, two, three = hate_tree.texts("xx", hate_tree.GOOD, 3)
    rows = [(one, "OTHER"), (f"{one.upper()} ", "OTHER"), ("@a hey", "OTHER")]
    rows += [("@bcd  hey", "OFFENSE"), (two, "OTHER"), ("alone", "OFFENSE")]
    hate_tree.german(tmp_path, rows)
    french = [(two, "normal"), (three, "normal"), ("vu", "offensive")]
    arabic = [(three, "normal"), ("seen", "offensive")]
    hate_tree.mlma(tmp_path, fr=french, ar=arabic)
    data = fields(tmp_path, train="de", test="ar")
    table = find.load(data)
    counts = np.bincount(table.labels, minlength=6)
    # ar: seen, three; fr: vu, two; de: alone, and one and "hey" once each.
    assert counts.tolist() == [1, 1, 1, 1, 1, 2]
    # No two texts are of one recording, since none is there twice.
    assert len(set(table.recordings)) == counts.sum() == 7
    data.limit = 1
    assert np.bincount(find.load(data).labels)[4:].tolist() == [1, 1]


STRANGE = [
    "",
    "😀👩‍👩‍👧 soup",
    "суп soup 汤 スープ",
    "\u202eشوربة\u202c حساء",
    "cafÃ© dÃ©jÃ  vu â€œsoupâ€\x9d",
    "\ufffd\x00\x07 soup",
    "soup " * 2000,
    "\ud83d half",
]


@pytest.mark.parametrize(
    ("language", "path", "content"),
    [
        ("de", "de_germeval2018/germeval2018.training.txt", "no tab\n"),
        ("zh", "zh_cold/COLDataset/train.csv", "TEXTS,label\na,1\n"),
        ("pt", "pt_toldbr/ToLD-BR.csv", "text,insult\na,often\n"),
        ("pt", "pt_toldbr/ToLD-BR.csv", "text,insult,racism\na,1\n"),
    ],
)
def test_damaged_sets_are_named(tmp_path, language, path, content):
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(content)
    data = fields(tmp_path, train=language, test="hatecheck-nl")
    hate_tree.mlma(tmp_path, fr=[("a", "normal"), ("b", "fearful")])
    hate_tree.hatecheck(tmp_path, "dutch", [("c", "hateful")])
    refused(lambda: find.load(data), f"a file of {language} in", "copy")


def test_strange_texts_are_texts(tmp_path):
    """Empty, long, of many scripts, of both directions, decoded wrongly."""
    written = [x for x in STRANGE[:-1] if "\x00" not in x]
    rows = [(" ".join(x.split()), "OTHER") for x in written]
    hate_tree.german(tmp_path, [*rows, ("plain", "OFFENSE")])
    hate_tree.mlma(tmp_path, fr=[("a", "normal"), ("b", "fearful")], ar=[])
    data = fields(tmp_path, train="de", test="hatecheck-nl")
    hate_tree.hatecheck(tmp_path, "dutch", [("c", "hateful")])
    table = find.load(data)
    german = np.isin(table.labels, table.of_split("train"))
    assert german.sum() == len(written) + 1
    assert table.inputs[german].any(axis=1).sum() == len(written)  # one empty
    assert table.front_end["cut"] >= 1
    assert len(table.fingerprint) == 16
    for text in STRANGE:
        assert isinstance(hate.clean(text), str)
        assert len(hate._digest(text)) == 32


def test_parts_of_a_test_language(small):
    """Support and queries never share a text; training shares all."""
    for name in small.classes:
        uses = small.uses[small.labels == small.classes.index(name)]
        if name.startswith("hatecheck"):
            assert set(uses) == {QUERY}
        elif name.split("/")[0] in ("hate-de", "hate-id"):
            assert set(uses) == {SUPPORT | QUERY}
        else:
            assert set(uses) == {SUPPORT, QUERY}
            assert 0.1 < (uses == SUPPORT).mean() < 0.6
    only = small.of_domain("hate-ar", "test")
    shape = draw.Shape(2, 3, 9, 2, 3)
    pool = draw.make_pool(only, "test", shape)
    support, query = set(), set()
    for index in range(40):
        drawn = draw.draw(np, pool, shape, 0, 2, index)
        support |= set(drawn.support.ravel().tolist())
        query |= set(drawn.query.ravel().tolist())
    assert {small.uses[x] for x in support} == {SUPPORT}
    assert {small.uses[x] for x in query} == {QUERY}
    checked = small.of_domain("hatecheck-nl", "test")
    refused(lambda: draw.make_pool(checked, "test", shape), "eval.support")
    refused(lambda: small.of_domain("hate-xx", "test"), "hate-ar")
    refused(lambda: small.of_domain("hate-fr", "test"), "nothing of hate-fr")


def domains_of(table, rows):
    return set(table.domain_of[table.labels[rows]].ravel().tolist())


def test_second_queries_are_of_another_language(small):
    place = {name: i for i, name in enumerate(small.domains)}
    trained = {place["hate-de"], place["hate-id"]}
    met = set()
    for queries in ("own", "other", "both"):
        shape = draw.Shape(2, 3, 4, 2, 3, queries)
        pool = draw.make_pool(small, "train", shape)
        for index in range(30):
            drawn = draw.draw(np, pool, shape, 1, 0, index)
            here = {int(drawn.domain)}
            met |= here
            other = trained - here
            assert domains_of(small, drawn.support) == here
            asked = other if queries == "other" else here
            assert domains_of(small, drawn.query) == asked
            # Slot 0 is always what is hateful.
            slots = [small.labels[x] % 2 for x in (drawn.support, drawn.query)]
            assert all((x == [[0], [1]]).all() for x in slots)
            if queries == "both":
                assert domains_of(small, drawn.second) == other
                assert (small.labels[drawn.second] % 2 == [[0], [1]]).all()
            else:
                assert drawn.second.shape == (2, 0)
    assert met == trained
    alone = draw.Shape(2, 3, 4, 2, 3, "both")
    refused(lambda: draw.make_pool(small, "validation", alone), "two or more")


def test_both_loaders_bring_second_queries(small):
    pytest.importorskip("tensorflow")
    shape = draw.Shape(2, 3, 4, 2, 3, "both")
    got = []
    for loader in ("device", "tfdata"):
        source = find.source(small, shape, "train", 5, loader)
        piece = next(source.pieces(0, 6))
        got.append(jax.jit(source.episodes)(source.shared, piece))
    chex.assert_trees_all_equal(*got)
    assert got[0].second.inputs.shape == (6, 8, 24)
    assert not (got[0].second.inputs == got[0].query.inputs).all()


def test_languages_that_cannot_be(tree):
    for more, words in (
        ({"train": ""}, ("data.train is ''", "hatecheck-nl")),
        ({"test": "ar+de"}, ("de is named twice",)),
        ({"train": "en"}, ("en_davidson",)),
        ({"train": "mr"}, ("hate_train.xlsx", "expected")),
        ({"test": "ar+xx"}, ("data.test is 'ar+xx'",)),
    ):
        refused(lambda more=more: find.load(fields(tree, **more)), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net.output=labels", ("net.output=classes",)),
        ("outer.domain_query=both", ("outer.domain_query", "hate")),
        ("system=hatemaml", ("outer.domain_query", "hate")),
        ("eval.support=train", ("eval.support", "hate")),
        ("data.name=hate,net.kind=ngrams", ("net.output=labels",)),
        ("data.name=hate,net.kind=ngrams,net.output=labels", ("set way=2",)),
        (f"{HATE}system=htmaml,eval.support=none", ("eval.support=none",)),
        (f"{HATE}system=alfa,eval.support=none", ("to decay by",)),
        (f"{HATE}system=maml,eval.support=train", ("set eval.domain",)),
        (
            f"{HATE}system=htmaml,eval.support=train,eval.domain=hate-ar,"
            "embed.control=shuffled",
            ("support of another task",),
        ),
        (f"{HATE}system=reptile,outer.domain_query=both", ("_query=own",)),
        (f"{HATE}system=multi-maml,data.domains=3", ("=domain", "language")),
        (
            f"{HATE}system=prototype",
            ("outer.objective=joint", "hyper.head=shared"),
        ),
    ],
)
def test_configs_that_cannot_work(text, words):
    refused(lambda: limits.check(parsed(text)), *words)


@pytest.mark.slow
def test_real_languages(real_data, monkeypatch):
    """Sizes after copies are gone, and no text in two places."""
    kept = {}

    def nothing(texts, data):
        kept["texts"] = texts
        return np.zeros((len(texts), 1), np.int32), {"stamp": ""}

    monkeypatch.setattr(hate, "inputs", nothing)
    data = fields(real_data, train="id+mr+zh", test="ar+hi+hatecheck-es")
    table = find.load(data)
    assert len({plain(text) for text in kept["texts"]}) == len(kept["texts"])
    share = {
        name: np.bincount(table.labels[table.labels // 2 == i] % 2)
        for i, name in enumerate(table.domains)
    }
    assert share["hatecheck-es"].tolist() == [2632, 1113]
    assert share["hate-hi"].sum() > 1950 and share["hate-ar"].sum() > 3200
    assert share["hate-mr"].sum() > 26000 and share["hate-zh"].sum() > 37000
    assert table.licence.count("CC BY-NC-SA 4.0") == 1
