"""A person's own folders: what is read, and what is said of bad ones."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from htmaml_jax.data import audio, clips
from htmaml_jax.errors import UserError

FRONT = audio.FrontEnd(rate=8000, window=256, hop=128, mels=32, seconds=0.25)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path / "cache"))


def write(path, frequency=500.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(2000) / 8000)
    soundfile.write(path, wave, 8000)


@pytest.fixture
def root(tmp_path):
    """Four classes, each two files of recording 1 and one of recording 2."""
    root = tmp_path / "mine"
    for i, name in enumerate(["ant", "bee", "cow", "dog"]):
        for j, file in enumerate(["1-a.wav", "1-b.OGG", "2-a.flac"]):
            write(root / name / file, 400 + 500 * i + 20 * j)
    return root


def test_reads_classes_in_order(root):
    write(root / ".hidden" / "x.wav")
    write(root / "ant" / ".hidden.wav")
    (root / "ant" / "notes.txt").write_text("seen at dusk")
    (root / "readme.md").write_text("mine")
    table = clips.read_folder(root, FRONT)
    assert table.classes == ("ant", "bee", "cow", "dog")
    np.testing.assert_array_equal(table.labels, np.repeat(range(4), 3))
    assert table.inputs.shape == (12, 32, 40, 1)
    assert len(set(table.recordings)) == 12
    assert (table.name, table.origin) == ("clips", str(root))
    assert table.front_end == FRONT.asdict()
    assert sorted(sum(table.splits.values(), ())) == list(table.classes)
    # Higher tones stand in higher rows: files belong to their labels.
    peaks = table.inputs[..., 0].mean(2).argmax(1).reshape(4, 3)
    assert (np.diff(peaks.mean(1)) > 0).all()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_silence_is_named(root, caplog, channels):
    front = dataclasses.replace(FRONT, channels=channels)
    clips.read_folder(root, front)
    loud = root / "ant" / "1-a.wav"
    clips.read_clips([loud], front)
    assert not caplog.messages
    flat = root / "bee" / "1-a.wav"
    soundfile.write(flat, np.zeros(20000), 8000)
    clips.read_folder(root, front)
    clips.read_clips([loud, flat], front)
    whole, some = caplog.messages
    assert f"{flat}: nothing but silence, as in 1 of 12 files" in whole
    assert "as in 1 of 2 files" in some


def test_pattern_groups_recordings_across_classes(root):
    """What two animals are heard in is one recording."""
    table = clips.read_folder(root, FRONT, r"^(\d+)-")
    np.testing.assert_array_equal(table.recordings, [0, 0, 1] * 4)


def test_split_folders_are_the_splits(root):
    for split, names in {
        "train": ["dog", "ant"],
        "validation": ["cow"],
        "test": ["bee"],
    }.items():
        (root / split).mkdir()
        for name in names:
            (root / name).rename(root / split / name)
    table = clips.read_folder(root, FRONT)
    assert table.classes == ("ant", "bee", "cow", "dog")
    assert table.splits == {
        "train": ("ant", "dog"),
        "validation": ("cow",),
        "test": ("bee",),
    }
    peaks = table.inputs[..., 0].mean(2).argmax(1).reshape(4, 3)
    assert (np.diff(peaks.mean(1)) > 0).all()

    write(root / "test" / "ant" / "1.wav")
    with pytest.raises(UserError, match="ant is also in train"):
        clips.read_folder(root, FRONT)


def test_a_folder_of_tests_alone(tmp_path):
    for name in ("elk", "fox"):
        write(tmp_path / "test" / name / "1.wav")
    table = clips.read_folder(tmp_path, FRONT)
    assert table.splits == {"test": ("elk", "fox")}
    with pytest.raises(UserError, match="no split 'train'; it has test"):
        table.standardised()


def test_incomplete_or_mixed_split_folders(root):
    write(root / "train" / "elk" / "1.wav")
    write(root / "test" / "fox" / "1.wav")
    with pytest.raises(UserError, match="no validation"):
        clips.read_folder(root, FRONT)
    write(root / "validation" / "gnu" / "1.wav")
    with pytest.raises(UserError, match="ant lies beside"):
        clips.read_folder(root, FRONT)


def test_a_class_may_be_called_test(root):
    write(root / "test" / "1.wav")
    assert "test" in clips.read_folder(root, FRONT).classes


def named(root, *words, pattern=None):
    with pytest.raises(UserError) as caught:
        clips.read_folder(root, FRONT, pattern)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert str(word) in text


def test_missing_root(tmp_path):
    named(tmp_path / "nowhere", tmp_path / "nowhere", "no such folder")


def test_file_as_root(root):
    named(root / "ant" / "1-a.wav", "1-a.wav", "no such folder")


def test_no_class_folders(tmp_path):
    write(tmp_path / "flat" / "1.wav")
    named(tmp_path / "flat", "flat", "no class folders")


def test_empty_class_folder(root):
    (root / "elk").mkdir()
    named(root, root / "elk", "no files")


def test_sounds_below_a_class_folder_are_not_left_out(root):
    (root / "bee" / "sheets").mkdir()
    (root / "bee" / "sheets" / "notes.txt").write_text("no sound")
    write(root / "bee" / "sheets" / ".trash" / "3-a.wav")
    assert len(clips.read_folder(root, FRONT).labels) == 12
    write(root / "bee" / "north" / "hive" / "3-a.wav")
    with pytest.raises(UserError, match="north: holds sound files inside"):
        clips.read_folder(root, FRONT)


def test_class_folder_with_unknown_endings_only(root):
    (root / "elk").mkdir()
    (root / "elk" / "a.m4a").write_bytes(b"x")
    (root / "elk" / "b.TXT").write_bytes(b"x")
    named(root, root / "elk", "only .m4a, .txt files")


def test_files_that_are_not_read_are_told(root, caplog):
    (root / "ant" / "3.m4a").write_bytes(b"x")
    (root / "ant" / "4.aiff").write_bytes(b"x")
    clips.read_folder(root, FRONT)
    assert "2 of 5 files are not read; wav, flac" in caplog.text


def test_copies_are_one_recording(root, caplog):
    """Whatever they are called, and in whichever class."""
    before = clips.read_folder(root, FRONT)
    assert (
        len(set(before.recordings)) == 12 and "another file" not in caplog.text
    )
    sound = (root / "ant" / "1-a.wav").read_bytes()
    (root / "ant" / "copy.wav").write_bytes(sound)
    (root / "bee" / "1-a.wav").write_bytes(sound)
    table = clips.read_folder(root, FRONT)
    ant = table.inputs[table.labels == 0]
    same = (table.inputs == ant[0]).all((1, 2, 3))
    assert same.sum() == 3 and len(set(table.recordings[same])) == 1
    assert len(set(table.recordings)) == 11
    assert "sounds like another file, as 2 of 13 do" in caplog.text


def test_too_few_classes(tmp_path):
    write(tmp_path / "two" / "a" / "1.wav")
    write(tmp_path / "two" / "b" / "1.wav")
    named(tmp_path / "two", "2 classes")


@pytest.mark.parametrize("content", [b"no sound at all", b""])
def test_corrupted_file(root, content):
    path = root / "cow" / "broken.wav"
    path.write_bytes(content)
    named(root, path, "cannot be read")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "not a regular expression"),
        (r"^\d+-", "0 groups"),
        (r"^(\d)(-)", "2 groups"),
        (r"^(\d{4})-", "does not match"),
        (r"^1|(2)", "does not match"),
    ],
)
def test_bad_patterns(root, pattern, words):
    named(root, repr(pattern), words, pattern=pattern)


def test_pattern_names_the_file(root):
    write(root / "bee" / "zebra.wav")
    named(root, root / "bee" / "zebra.wav", pattern=r"^(\d+)-")


def test_read_clips(root):
    paths = [root / "ant" / "1-a.wav", str(root / "dog" / "2-a.flac")]
    x, owners = clips.read_clips(paths, FRONT)
    table = clips.read_folder(root, FRONT)
    np.testing.assert_array_equal(x, table.inputs[[0, 11]])
    np.testing.assert_array_equal(owners, [0, 1])
    with pytest.raises(UserError, match="no sound files"):
        clips.read_clips([], FRONT)
    with pytest.raises(UserError, match="gone.wav"):
        clips.read_clips([root / "gone.wav"], FRONT)


def test_importing_the_readers_is_light():
    code = (
        "import sys; from htmaml_jax.data import audio, clips, synthetic;"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'librosa'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.strip() == "[]"
