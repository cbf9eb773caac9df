"""TFDS builders on small made-up trees, and on the real ESC-10."""

import csv
import functools
import http.server
import pathlib
import shutil
import threading

import numpy as np
import pytest
import soundfile

pytest.importorskip("tensorflow_datasets")

import tensorflow_datasets as tfds
from refusals import refused

from htmaml_jax.data import audio, builders, clips

FRONT = audio.FrontEnd(rate=8000, window=256, hop=128, mels=32, seconds=0.25)
ESC50 = {"dog": 0, "pig": 2, "rain": 10}
SPLITS = {"train": ("pig",), "validation": ("rain",), "test": ("dog",)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path / "cache"))


def write(path, frequency):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(4410) / 44100)
    soundfile.write(path, wave, 44100)


def make_esc50(home):
    """Writes three classes of four clips; takes A and B share a source."""
    rows = []
    root = home / "ESC-50-master"
    for category, target in ESC50.items():
        for source in (17, 42):
            for take in "AB":
                name = f"1-{source}-{take}-{target}.wav"
                write(root / "audio" / name, 300 + 200 * target + source)
                esc10 = category != "pig"
                rows.append([name, 1, target, category, esc10, source, take])
    (root / "meta").mkdir()
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = "filename fold target category esc10 src_file take"
        writer.writerow(names.split())
        writer.writerows(rows)
    return root


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "manual"
    make_esc50(home)
    return home


@pytest.fixture
def load(tmp_path):
    return functools.partial(
        builders.load_esc, front=FRONT, data_dir=tmp_path / "tfds"
    )


def test_esc50_tree(home, load):
    table = load("esc50", splits=SPLITS, manual_dir=home)
    assert table.classes == ("dog", "pig", "rain")
    assert table.splits == SPLITS
    assert table.inputs.shape == (12, 32, 40, 1)
    np.testing.assert_array_equal(np.bincount(table.labels), [4, 4, 4])
    # Sources 17 and 42 are heard in every class.
    np.testing.assert_array_equal(np.bincount(table.recordings), [6, 6])
    assert (table.name, table.licence) == ("esc50", "CC BY-NC 3.0")
    # The detour over TFDS changes no sample.
    files = sorted((home / "ESC-50-master" / "audio").glob("*-2.wav"))
    straight, _ = clips.read_clips(files, FRONT)
    np.testing.assert_array_equal(table.inputs[table.labels == 1], straight)


def test_waveforms_are_stored_without_loss(home, load, tmp_path):
    load("esc50", splits=SPLITS, manual_dir=home)
    builder = builders.Esc50(data_dir=str(tmp_path / "tfds"))
    items = list(tfds.as_numpy(builder.as_dataset(split="clips")))
    assert len(items) == 12
    for item in items:
        name = item["filename"].decode()
        path = home / "ESC-50-master" / "audio" / name
        wave, rate = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(item["audio"], wave)
        assert item["rate"] == rate
        assert item["recording"].decode() == name.split("-")[1]


def test_prepared_set_and_features_are_reused(home, load, monkeypatch):
    first = load("esc50", splits=SPLITS, manual_dir=home)

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(audio, "decode", fail)
    monkeypatch.setattr(audio, "log_mel", fail)
    shutil.rmtree(home)
    again = load("esc50", splits=SPLITS)
    assert again.fingerprint == first.fingerprint
    with pytest.raises(AssertionError):
        load("esc50", front=audio.FrontEnd(), splits=SPLITS)


def test_other_files_are_not_taken_for_the_prepared(home, load):
    load("esc50", splits=SPLITS, manual_dir=home)
    write(home / "ESC-50-master" / "audio" / "1-17-A-0.wav", 100)
    load("esc50", splits=SPLITS, manual_dir=home)  # the same size
    path = home / "ESC-50-master" / "audio" / "1-17-A-0.wav"
    soundfile.write(path, np.zeros(99), 44100)
    refused(
        lambda: load("esc50", splits=SPLITS, manual_dir=home),
        "prepared from other files",
    )


def test_archive_gives_what_the_tree_gives(home, load, tmp_path):
    tree = load("esc50", splits=SPLITS, manual_dir=home)
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    shutil.make_archive(zipped / "ESC-50-master", "zip", home)
    table = load(
        "esc50",
        splits=SPLITS,
        manual_dir=zipped,
        data_dir=tmp_path / "tfds2",
    )
    assert table.fingerprint == tree.fingerprint


def test_half_extracted_tree(home, load):
    sounds = sorted((home / "ESC-50-master" / "audio").iterdir())
    for path in sounds[5:]:
        path.unlink()
    refused(
        lambda: load("esc50", splits=SPLITS, manual_dir=home),
        "ESC-50-master/audio/1-",
        "the first of 7 missing among 12",
        "Expected: ESC-50-master/meta/esc50.csv",
    )


def test_cut_archive(home, load, tmp_path):
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    path = pathlib.Path(shutil.make_archive(zipped / "master", "zip", home))
    path.write_bytes(path.read_bytes()[:5000])
    refused(
        lambda: load("esc50", splits=SPLITS, manual_dir=zipped),
        path,
        "not a whole zip",
    )


def test_damaged_sound_is_named(home, load):
    path = home / "ESC-50-master" / "audio" / "1-42-B-10.wav"
    path.write_text("no sound")
    refused(lambda: load("esc50", manual_dir=home), "1-42-B-10.wav")


def test_damaged_csv_is_named(home, load):
    path = home / "ESC-50-master" / "meta" / "esc50.csv"
    path.write_text("filename,category\n1-17-A-0.wav,dog\n")
    refused(lambda: load("esc50", manual_dir=home), "meta/esc50.csv")


def test_missing_data(load, tmp_path):
    empty = tmp_path / "empty"
    refused(lambda: load("esc50", manual_dir=empty), empty, "no such folder")
    empty.mkdir()
    refused(lambda: load("esc50", manual_dir=empty), "meta/esc50.csv")
    (empty / "notes.txt").write_text("x")
    refused(lambda: load("esc10", manual_dir=empty), empty, "001 - Dog bark")
    refused(lambda: load("esc50"), "archive/master.zip")
    refused(lambda: load("esc99"), "esc99")


def test_splits_name_classes_that_exist(home, load):
    splits = {**SPLITS, "test": ("dog", "cow")}
    refused(
        lambda: load("esc50", splits=splits, manual_dir=home), "test", "cow"
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_download(home, load, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    shutil.make_archive(site / "master", "zip", home)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(builders.Esc50, "URL", f"{url}/gone.zip")
        refused(lambda: load("esc50", download=True), f"{url}/gone.zip")
        monkeypatch.setattr(builders.Esc50, "URL", f"{url}/master.zip")
        refused(lambda: load("esc50"), "allow the download")
        table = load("esc50", splits=SPLITS, download=True)
        server.shutdown()
    assert table.inputs.shape == (12, 32, 40, 1)


def test_esc10_from_esc50(home, load):
    """Takes the clips that ESC-50 marks as ESC-10's: here dog and rain."""
    refused(lambda: load("esc10", manual_dir=home), "2 classes")
    splits = {"train": ("dog",), "test": ("rain",)}
    table = load("esc10", splits=splits, manual_dir=home)
    assert table.classes == ("dog", "rain")
    assert len(table.inputs) == 8


@pytest.fixture
def esc10(tmp_path):
    """Writes ten folders of forty clips, as the first release had them."""
    home = tmp_path / "ten"
    first = home / "ESC-10-master" / "001 - Dog bark" / "1-1-A.ogg"
    write(first, 500)
    for number in range(1, 11):
        kind = "Dog bark" if number == 1 else f"Kind {number}"
        folder = home / "ESC-10-master" / f"{number:03d} - {kind}"
        folder.mkdir(exist_ok=True)
        for i in range(40):
            path = folder / f"{i % 5 + 1}-{i // 2}-{'AB'[i % 2]}.ogg"
            shutil.copyfile(first, path)
    first.unlink()
    return home


def test_esc10_folders(esc10, load):
    table = load("esc10", manual_dir=esc10)
    assert table.classes == tuple(sorted(builders.Esc10.CLASSES))
    np.testing.assert_array_equal(np.bincount(table.labels), [40] * 10)
    assert len(set(table.recordings)) == 20


def test_half_extracted_esc10(esc10, load):
    for path in sorted((esc10 / "ESC-10-master").glob("010*/*"))[3:]:
        path.unlink()
    refused(
        lambda: load("esc10", manual_dir=esc10),
        "folder 010 (crackling_fire) holds 3 of 40",
    )


@pytest.mark.slow
def test_real_esc10(load, real_data):
    home = real_data / "esc10_audio"
    table = load("esc10", front=audio.FrontEnd(), manual_dir=home)
    np.testing.assert_array_equal(np.bincount(table.labels), [40] * 10)
    # Rain is a steady hiss, a dog's bark is not: spread over time in dB.
    spread = table.inputs[..., 0].std(2).mean(1)
    rain, dog = (
        table.labels == table.classes.index(c) for c in ("rain", "dog")
    )
    assert spread[rain].mean() < 0.5 * spread[dog].mean()
