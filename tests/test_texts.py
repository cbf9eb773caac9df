"""Texts: files of one's own, the four collections, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from refusals import parsed, refused

from htmaml_jax import config, limits
from htmaml_jax.data import draw, find, intents, texts
from htmaml_jax.errors import UserError
from htmaml_jax.run import workdir

WORDS = "where is my card please".split()


def write_own(path):
    """Twenty classes, each two words and their order, nine texts each."""
    pairs = [(a, b) for a in WORDS for b in WORDS if a != b]
    lines = ["text,label"]
    for i, (a, b) in enumerate(pairs):
        lines += [f"{a} {b} {n * (b + ' ')},class {i}" for n in range(9)]
    path.write_text("\n".join(lines), "utf-8")
    return path


def fields(own, encoder, **more):
    data = config.default().data
    data.update(name="texts", dir=str(own), encoder=str(encoder), size=8)
    data.update(more)
    return data


def test_forms_of_files(tmp_path):
    rows = [("wo ist, meine Karte?", "a"), ("بطاقتي\u202e", "b"), ("", "a")]
    for name, text in (
        (
            "x.csv",
            '\ufefftext,label\n"wo ist, meine Karte?",a\n'
            'بطاقتي\u202e,b\n"",a\n',
        ),
        (
            "x.tsv",
            "label\ttext\na\two ist, meine Karte?\nb\tبطاقتي\u202e\na\t\n",
        ),
        (
            "x.jsonl",
            "\n\n".join(json.dumps({"text": t, "label": x}) for t, x in rows),
        ),
    ):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        found = texts.read_file(path)
        assert list(zip(found.texts, found.labels, strict=True)) == rows


def test_quotes_and_strange_ends_of_lines(tmp_path):
    """Quotes are nothing in .tsv; U+2028 ends no line."""
    rows = [('"hello there', "a"), ("foo\u2028bar", "b"), ('"bar" baz', "c")]
    lines = ["text\tlabel", *(f"{t}\t{x}" for t, x in rows)]
    (tmp_path / "x.tsv").write_text("\n".join(lines), "utf-8")
    objects = [
        json.dumps({"text": t, "label": x}, ensure_ascii=False) for t, x in rows
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(objects), "utf-8")
    for name in ("x.tsv", "x.jsonl"):
        found = texts.read_file(tmp_path / name)
        assert list(zip(found.texts, found.labels, strict=True)) == rows


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.txt", b"text,label", ("is not a .csv",)),
        ("x.csv", b"text;label\nhello;a", ("entry 1 has no text",)),
        ("x.csv", b"text,label\nhello", ("entry 1 has no label",)),
        ("x.csv", b"text,label\nhello, ", ("entry 1 has no label",)),
        ("x.csv", "text,label\ncafé,a".encode("latin1"), ("not UTF-8",)),
        ("x.jsonl", b'{"text": "a", "label": 3}', ("entry 1 has no label",)),
        ("x.jsonl", b'{"text": "a"\n', ("line 1 is no JSON",)),
        ("x.csv", b'text,label\n"' + b"a" * 140_000, ("no table",)),
        ("x.csv", b'label,text\na,"hi\nb,ho\n' * 3, ("no table", "quote")),
        ("x.csv", b"text,label\nhello, world,a", ("entry 1 has more cells",)),
        ("x.jsonl", b"[1, 2]\n", ("line 1 is no JSON object",)),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(lambda: texts.read_file(tmp_path / name), name, *words)
    refused(lambda: texts.read_file(tmp_path / "no.csv"), "no.csv")


def test_no_query_repeats_its_support(encoder):
    found = texts.Labelled(
        ["my card", " My  CARD", "card", "is"] * 2, ["a"] * 8, "here", "none"
    )
    data = fields("", encoder)
    table = texts.table(found, "x", {"train": ("a",)}, data)
    assert len(set(table.recordings[[0, 1, 4, 5]])) == 1
    assert len(set(table.recordings)) == 3
    np.testing.assert_array_equal(table.inputs[0], table.inputs[4])
    assert table.standardised() is table  # vectors stay as they were made


def test_the_size_of_vectors_is_checked(own, encoder):
    data = fields(own, encoder, size=9)
    refused(lambda: find.load(data), "data.size is 9", "8 numbers")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data.name=liu,data.encoder=x", ("net.kind=vector",)),
        (
            "data.name=liu,data.encoder=x,net.kind=vector,embed.kind=set,"
            "embed.body=own",
            ("embed.body=own",),
        ),
        ("outer.frozen=(", ("outer.frozen", "regular expression")),
        ("outer.augment.noise=0.1", ("are not for pictures",)),
        (
            "data.name=liu,data.encoder=x,net.kind=vector,"
            "outer.augment.roll=0.1",
            ("roll",),
        ),
        ("outer.augment.drop=1.0", ("outer.augment.drop", "below 1")),
        (
            "data.name=liu,data.encoder=x,net.kind=vector,net.length=4.0",
            ("net.length is for net.kind=conv",),
        ),
        ("net.context=16", ("net.context is for net.kind=ngrams",)),
    ],
)
def test_configs_that_cannot_work(text, words):
    refused(lambda: limits.check(parsed(text)), *words)


@pytest.mark.parametrize("name", intents.SETS)
def test_folds_of_real_collections(real_data, name, monkeypatch):
    """The counts of ProtAugment's folds, and of the published texts."""
    sizes = {
        "banking77": (13083, {(25, 25, 27)}),
        "clinc150": (22500, {(50, 50, 50)}),
        "liu": (25478, {(18, 18, 18)}),
        "hwu64": (
            11106,
            {(16, 23, 25), (30, 15, 19), (24, 18, 22), (20, 15, 29)}
            | {(25, 11, 28)},
        ),
    }
    monkeypatch.setattr(
        texts,
        "inputs",
        lambda t, d: (np.zeros((len(t), 1), np.float32), {"stamp": ""}),
    )
    shapes, held = set(), set()
    for fold in intents.FOLDS:
        data = fields("", "", name=name, fold=fold, dir=str(real_data))
        table = find.load(data)
        shapes.add(tuple(len(table.splits[s]) for s in draw.SPLITS))
        held.add(table.splits["test"])
        taken = [c for names in table.splits.values() for c in names]
        assert len(set(taken)) == len(taken) == len(table.classes)
        draw.make_pool(table, "test", draw.Shape(5, 5, 5, 5, 5))
    assert (len(table.labels), shapes) == sizes[name]
    assert len(held) == 5
    data.fold = 0
    table = find.load(data)
    assert table.splits == {"test": table.classes}
    refused(
        lambda: find.source(
            table, find.training_shape(data), "train", 0, "device"
        ),
        "no split 'train'",
    )
    data.fold = 6
    refused(lambda: find.load(data), "data.fold is 6", "1 to 5")


def test_all_labels_of_a_file_may_be_for_tests(own, encoder):
    table = find.load(fields(own, encoder, fold=0))
    assert table.splits == {"test": table.classes} and len(table.classes) > 5


def test_one_class_written_in_two_ways_is_refused(encoder):
    found = texts.Labelled(["x", "y", "z"], ["Card", "card", "a"], "", "")
    splits = {"train": ("Card",), "test": ("card",), "validation": ("a",)}
    table = texts.table(found, "mine", splits, fields("", encoder))
    with pytest.raises(UserError, match="'card' is a class of train and of te"):
        workdir.refuse_alike_classes(table)
    # What stands before a colon is part of a name, but in a mixture.
    names = ["billing: refund", "shipping: refund", "a"]
    splits = dict(zip(splits, ((n,) for n in names), strict=True))
    table = texts.table(
        texts.Labelled(["x", "y", "z"], names, "", ""),
        *("mine", splits, fields("", encoder)),
    )
    workdir.refuse_alike_classes(table)
    both = table.splits, table.splits
    workdir.refuse_seen_classes("run", *both, "test", table.domains)
    with pytest.raises(UserError, match="has met"):
        domains = ("billing", "shipping")
        workdir.refuse_seen_classes("run", *both, "test", domains)


def test_the_fingerprint_is_that_of_texts(own, encoder):
    """Not of vectors, which another machine rounds in another way."""
    one = find.load(fields(own, encoder))
    rounded = dataclasses.replace(one, inputs=one.inputs * (1 + 1e-7))
    assert one.fingerprint == rounded.fingerprint
    other = dataclasses.replace(one, content="other texts")
    assert one.fingerprint != other.fingerprint
