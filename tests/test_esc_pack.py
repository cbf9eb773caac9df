"""ESC-50 as pictures of spectrograms: what is read, and what is refused."""

import csv
import zipfile

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from htmaml_jax import config
from htmaml_jax.data import draw, esc, find
from htmaml_jax.data.audio import FrontEnd

ARCHIVE = "esc50_logmel_gray.zip"


@pytest.fixture
def data():
    return config.default().data


@pytest.fixture
def pack(tmp_path):
    """Writes a pack of three pictures, white above a black lower half."""
    folder = tmp_path / "mine" / esc.PACK
    folder.mkdir(parents=True)
    with open(folder / "meta.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "target", "category", "src_file"])
        for name, target, source in (("a", 2, 7), ("b", 2, 7), ("c", 0, 3)):
            rows.writerow([f"{name}.png", target, "", source])
    gray = np.zeros((128, 431), np.uint8)
    gray[:64] = 255
    Image.fromarray(gray).save(tmp_path / "a.png")
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        for name in "abc":
            archive.write(tmp_path / "a.png", f"gray/{name}.png")
    return folder


def test_pack(pack, data):
    data.dir, data.split = str(pack), "metaaudio"
    table = find.load(data)
    assert (table.name, table.origin) == ("esc50-pack", str(pack))
    assert table.inputs.shape == (3, 32, 40, 1)
    # Row 0 is the lowest frequency, the bottom of the picture.
    assert (table.inputs[:, :14] == 0).all()
    assert (table.inputs[:, 18:] == 1).all()
    assert [table.classes[i] for i in table.labels] == ["pig", "pig", "dog"]
    same = table.recordings[:, None] == table.recordings
    assert same.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert table.splits == esc.SPLITS["metaaudio"]
    before = table.fingerprint
    data.split = "animals"
    assert find.load(data).fingerprint != before


def test_half_extracted_pack(pack, data):
    data.dir = str(pack)
    whole = (pack / ARCHIVE).read_bytes()
    with zipfile.ZipFile(pack / ARCHIVE, "w") as archive:
        archive.writestr("gray/a.png", b"")
    refused(lambda: find.load(data), pack / ARCHIVE, "lacks 2 of 3", "b.png")
    (pack / ARCHIVE).write_bytes(whole[:-100])
    refused(lambda: find.load(data), pack / ARCHIVE, "damaged")
    (pack / ARCHIVE).write_bytes(whole.replace(b"IDAT", b"IDAX"))
    refused(lambda: find.load(data), pack / ARCHIVE, "damaged")
    (pack / ARCHIVE).unlink()
    refused(lambda: find.load(data), pack / ARCHIVE, "is missing")
    (pack / ARCHIVE).write_bytes(whole)
    whole = (pack / "meta.csv").read_text()
    for damage in (
        whole.replace("src_file", "source"),
        whole[: whole.index("\n") + 1],
        whole.replace(",0,", ",99,", 1),
        whole.rstrip().rpartition(",")[0],
    ):
        assert damage != whole
        (pack / "meta.csv").write_text(damage)
        refused(
            lambda: find.load(data), pack / "meta.csv", "copy the file again"
        )
    (pack / "meta.csv").unlink()
    refused(
        lambda: find.load(data),
        pack / "meta.csv",
        "is missing",
        "copy it again",
    )


def test_picture_that_is_none(pack, data):
    data.dir = str(pack)
    with zipfile.ZipFile(pack / ARCHIVE, "w") as archive:
        for name in "abc":
            archive.writestr(f"{name}.png", b"no picture")
    refused(lambda: find.load(data), pack / ARCHIVE, "damaged")


def test_unknown_class_split(pack, data):
    data.dir, data.split = str(pack), "animal"
    refused(
        lambda: find.load(data),
        "data.split 'animal'",
        "animals, development, esc10, metaaudio",
    )


def test_real_pack(real_data):
    real = esc.read_pack(real_data / esc.PACK, FrontEnd(), "animals")
    assert real.inputs.shape == (1600, 32, 40, 1)
    assert real.inputs.min() >= 0 and real.inputs.max() <= 1
    np.testing.assert_array_equal(np.bincount(real.labels), [32] * 50)
    assert real.classes == esc.CLASSES and len(set(real.classes)) == 50
    assert len(set(real.recordings)) > 1000
    train = np.isin(real.labels, real.of_split("train"))
    assert train.sum() == 32 * 32
    inputs = real.standardised().scale(real.inputs[train])
    assert abs(inputs.mean()) < 1e-4
    assert abs(inputs.std() - 1) < 1e-4


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("metaaudio", (35, 5, 10)),
        ("animals", (32, 6, 12)),
        ("development", (25, 15, 10)),
        ("esc10", (32, 6, 10)),
    ],
)
def test_class_splits(name, sizes):
    splits = [esc.SPLITS[name][split] for split in draw.SPLITS]
    assert tuple(map(len, splits)) == sizes
    together = [label for split in splits for label in split]
    # A recording is of hen and rooster, another of both clocks.
    neither = ["hen", "clock_alarm"] if name == "esc10" else []
    assert sorted(together + neither) == sorted(esc.CLASSES)
