"""Readers of characters and spoken words; the real mixture."""

import io
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from htmaml_jax import config
from htmaml_jax.data import commands, find, omniglot
from htmaml_jax.data.audio import FrontEnd
from htmaml_jax.errors import UserError

SQUARE = FrontEnd(rows=28, columns=28)
TURNS = ("rot000", "rot090", "rot180", "rot270")


def draw_characters(root):
    """Writes 2 alphabets of 2 and 1 characters, 3 drawings each.

    The ink is in the upper left corner.
    """
    for part, alphabet, count in (
        ("background", "Greek", 2),
        ("evaluation", "Keble", 1),
    ):
        for character in range(count):
            folder = root / f"images_{part}" / alphabet / f"c{character}"
            folder.mkdir(parents=True)
            for drawing in range(3):
                ink = np.full((105, 105), 255, np.uint8)
                ink[: 20 + drawing, :20] = 0
                Image.fromarray(ink).convert("1").save(
                    folder / f"{drawing}.png"
                )
    return root


@pytest.fixture
def characters(tmp_path):
    return draw_characters(tmp_path / "omniglot")


def write_lists(root):
    for name, character in (
        ("train", "Greek/c0"),
        ("val", "Greek/c1"),
        ("test", "Keble/c0"),
    ):
        lines = [f"{character}/{turn}\n" for turn in TURNS]
        (root / f"{name}.txt").write_text("".join(lines))


def test_omniglot_turns_are_classes(characters):
    write_lists(characters)
    table = omniglot.read(characters, SQUARE)
    assert table.name == "omniglot"
    assert table.inputs.shape == (3 * 3 * 4, 28, 28, 1)
    assert table.inputs.dtype == np.uint8
    assert len(table.classes) == 12
    assert table.splits["validation"] == tuple(
        f"Greek/c1/{turn}" for turn in TURNS
    )
    # The corner that holds the ink, turn by turn, against the clock.
    corners = {(0, 0): "rot000", (27, 0): "rot090"}
    corners |= {(27, 27): "rot180", (0, 27): "rot270"}
    for row, label in enumerate(table.labels):
        ink = [at for at in corners if table.inputs[row, *at, 0] > 200]
        assert [corners[at] for at in ink] == [table.classes[label][-6:]]
    np.testing.assert_array_equal(np.bincount(table.labels), [3] * 12)


def test_omniglot_without_lists_splits_as_lake(characters):
    table = omniglot.read(characters, SQUARE)
    assert table.name == "omniglot-lake"
    assert {n.split("/")[0] for n in table.splits["test"]} == {"Keble"}
    # Five alphabets of the first folder are held out; here it has one.
    assert len(table.splits["validation"]) == 8


def test_omniglot_archive_equals_folder(characters, tmp_path, monkeypatch):
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path / "first"))
    folder = omniglot.read(characters, SQUARE)
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path / "second"))
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "omniglot_images.zip", "w") as archive:
        for path in sorted(characters.rglob("*.png")):
            archive.write(path, path.relative_to(characters))
    assert omniglot.read(packed, SQUARE).fingerprint == folder.fingerprint
    # What is there twice, archived and extracted, counts once.
    shutil.copytree(characters, packed, dirs_exist_ok=True)
    assert omniglot.read(packed, SQUARE).fingerprint == folder.fingerprint


def test_omniglot_notices_other_pictures_of_the_same_size(characters):
    before = omniglot.read(characters, SQUARE)
    path = characters / "images_background/Greek/c0/0.png"
    size = path.stat().st_size
    picture = Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture.save(path)
    changed = path.read_bytes()
    # Padding behind the end of a PNG is not looked at.
    path.write_bytes(changed.ljust(size, b"\0"))
    after = omniglot.read(characters, SQUARE)
    assert after.fingerprint != before.fingerprint


def test_omniglot_refusals(characters, tmp_path):
    with pytest.raises(UserError, match="must be equal"):
        omniglot.read(characters, FrontEnd(rows=28, columns=32))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        omniglot.read(tmp_path / "empty", SQUARE)
    write_lists(characters)
    overlap = characters / "val.txt"
    lists = overlap.read_text()
    overlap.write_text((characters / "train.txt").read_text())
    with pytest.raises(UserError, match="share a class"):
        omniglot.read(characters, SQUARE)
    overlap.write_text(lists)
    shutil.rmtree(characters / "images_evaluation")
    with pytest.raises(UserError, match="4 classes of the split lists"):
        omniglot.read(characters, SQUARE)
    broken = characters / "images_background/Greek/c0/0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    for name in ("train", "val", "test"):
        (characters / f"{name}.txt").unlink()
    with pytest.raises(UserError, match=r"c0/0.png is no whole picture"):
        omniglot.read(characters, SQUARE)


def write_words(root):
    words = [*commands.TEST.split(), *commands.VALIDATION.split(",")]
    words += ["left", "right"]
    rng = np.random.default_rng(0)
    for word in words:
        folder = root / "dataset" / word
        folder.mkdir(parents=True)
        for speaker in (1, 2):
            for take in (1, 2):
                wave = rng.normal(0, 0.1, 4000)
                name = f"{speaker:08}_NO_{take:02}.wav"
                soundfile.write(folder / name, wave, 4000)
    return root


def test_commands(tmp_path):
    root = write_words(tmp_path / "words")
    front = FrontEnd(rate=4000, window=128, hop=64, mels=16, rows=8, columns=8)
    table = commands.read(root, front)
    assert table.inputs.shape == (21 * 4, 8, 8, 1)
    assert table.front_end["seconds"] == 1.0
    assert table.splits["train"] == ("left", "right")
    assert len(table.splits["test"]) == 10
    assert "zoom in" in table.splits["validation"]
    # Both takes of a speaker of a word, and nothing else, are a recording.
    takes = np.bincount(table.recordings)
    np.testing.assert_array_equal(takes, [2] * 42)
    pairs = set(zip(table.labels, table.recordings, strict=True))
    assert len(pairs) == 42
    shutil.rmtree(root / "dataset" / "zero")
    with pytest.raises(UserError, match="lacks the word 'zero'"):
        commands.read(root, front)
    (root / "dataset/one/00000001_NO_01.wav").write_bytes(b"RIFF")
    (root / "dataset/zero").mkdir()
    shutil.copy(root / "dataset/two/00000001_NO_01.wav", root / "dataset/zero")
    with pytest.raises(UserError, match="one/00000001_NO_01.wav"):
        commands.read(root, front)


@pytest.mark.slow
def test_real_mixture(real_data):
    c = config.default().data
    c.update(name="omniglot+commands+brains", domains=3, rows=28, columns=28)
    c.dir = str(real_data)
    table = find.load(c)
    sizes = {
        split: np.bincount(table.domain_of[table.of_split(split)]).tolist()
        for split in table.splits
    }
    assert sizes == {
        "train": [4112, 21, 14],
        "validation": [688, 9, 6],
        "test": [1692, 10, 12],
    }
    counts = np.bincount(table.labels)
    assert set(counts[table.domain_of == 0]) == {20}
    assert set(counts[table.domain_of == 1]) == {60}
    assert set(counts[table.domain_of == 2]) == {36, 42}
    # Strokes are thin.
    ink = table.inputs[table.domain_of[table.labels] == 0]
    assert 0.02 < ink.mean() / 255 < 0.2


@pytest.mark.slow
def test_real_characters_are_shrunk_and_inverted(real_data):
    front = FrontEnd(rows=28, columns=28)
    table = omniglot.read(real_data / "omniglot", front)
    with zipfile.ZipFile(real_data / "omniglot/omniglot_images.zip") as archive:
        name = sorted(archive.namelist())[0]
        picture = Image.open(io.BytesIO(archive.read(name))).convert("L")
    small = picture.resize((28, 28), Image.Resampling.BILINEAR)
    alphabet, character = pathlib.PurePath(name).parts[1:3]
    label = table.classes.index(f"{alphabet}/{character}/rot000")
    rows = table.inputs[table.labels == label][..., 0]
    assert any((row == 255 - np.asarray(small)).all() for row in rows)
