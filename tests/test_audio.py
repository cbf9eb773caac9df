"""The audio front end against known signals, bad files and a bad cache."""

import dataclasses
import pathlib

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from htmaml_jax.data import audio, cache
from htmaml_jax.errors import UserError

FRONT = audio.FrontEnd(seconds=1.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path / "cache"))


def tone(frequency, seconds=1.0, rate=16000):
    return np.sin(
        2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate
    ).astype(np.float32)


def nearest_band(frequency, front):
    """Finds the mel band whose centre is nearest, in Slaney's mels."""

    def mel(hz):
        hz = np.asarray(hz, float)
        log = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
        return np.where(hz < 1000, hz * 3 / 200, log)

    centres = mel(front.rate / 2) * np.arange(1, front.mels + 1)
    return np.abs(centres / (front.mels + 1) - mel(frequency)).argmin()


@pytest.mark.parametrize("frequency", [150, 440, 990, 2000, 5000, 7500])
def test_tone_peaks_in_its_mel_row(frequency):
    spec = audio.log_mel(tone(frequency), FRONT)
    assert spec.shape == (128, 16000 // 512 + 1)
    assert spec.dtype == np.float32
    assert spec.min() >= 0 and spec.max() == 1
    peak = spec[:, 5:-5].mean(1).argmax()
    assert abs(peak - nearest_band(frequency, FRONT)) <= 1


def test_decibels_are_scaled_to_the_range():
    # The quieter tone drops by 20 dB: a quarter of the default 80 dB.
    row = nearest_band(4000, FRONT)
    levels = [
        audio.log_mel(tone(1000) + gain * tone(4000), FRONT)[row, 10]
        for gain in (0.1, 0.01)
    ]
    assert levels[0] - levels[1] == pytest.approx(20 / 80, abs=1e-3)
    narrow = audio.FrontEnd(seconds=1.0, top_db=30.0)
    spec = audio.log_mel(tone(1000) + 0.01 * tone(4000), narrow)
    assert spec[row, 10] == 0


def test_loudness_does_not_matter():
    wave = tone(700) + 0.1 * np.random.default_rng(0).normal(size=16000)
    loud = audio.log_mel(wave, FRONT)
    for gain in (1e-4, 1e3):
        np.testing.assert_allclose(
            audio.log_mel(gain * wave, FRONT), loud, atol=1e-4
        )


def test_silence_is_zero():
    for wave in (np.zeros(16000, np.float32), np.full(16000, 1e-9, "f4")):
        spec = audio.log_mel(wave, FRONT)
        assert spec.shape == (128, 32) and not spec.any()
        assert not audio.picture(wave, FRONT).any()


@pytest.mark.parametrize("level", ["log", "pcen"])
def test_an_offset_is_no_sound(level):
    """As cheap recorders have; it would outdo all calls that are quiet."""
    front = dataclasses.replace(FRONT, level=level)
    noise = np.random.default_rng(0).normal(size=FRONT.samples)
    call = 0.01 * noise.astype(np.float32)
    call -= call.mean()
    clean = audio.log_mel(call, front)
    for offset in (0.001, -0.05, 0.5):
        found = audio.log_mel(call + np.float32(offset), front)
        np.testing.assert_allclose(found, clean, atol=0.02)
    assert not audio.log_mel(np.full(FRONT.samples, 0.3), front).any()


def test_fit_length_keeps_the_loudest_window():
    wave = 0.01 * np.ones(40000, np.float32)
    wave[17000:33000] = 0.5
    assert np.all(audio.fit_length(wave, FRONT) == 0.5)


def test_fit_length_repeats_short_clips():
    wave = np.arange(1, 6001, dtype=np.float32)
    out = audio.fit_length(wave, FRONT)
    np.testing.assert_array_equal(out, wave[np.arange(16000) % 6000])


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 400),
    size=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_fit_length_is_a_loudest_window(length, size, seed):
    front = audio.FrontEnd(rate=100, seconds=size / 100)
    wave = np.random.default_rng(seed).normal(size=length).astype("f4")
    out = audio.fit_length(wave, front)
    assert out.shape == (size,) and out.dtype == np.float32
    best = max(
        np.sum(wave[i : i + size].astype(float) ** 2)
        for i in range(max(1, length - size + 1))
    )
    if length >= size:
        assert np.sum(out.astype(float) ** 2) == pytest.approx(best)


def test_shrink_averages_and_keeps_orientation():
    spec = np.random.default_rng(0).uniform(size=(183, 247))
    small = audio.shrink(spec, 32, 40)
    assert small.shape == (32, 40) and small.dtype == np.float32
    # Antialiased: white noise of deviation 0.29 nearly averages out.
    assert small.std() < 0.08
    assert small.mean() == pytest.approx(spec.mean(), abs=0.01)
    spec = np.zeros((128, 157))
    spec[:32] = 1
    np.testing.assert_allclose(audio.shrink(spec, 32, 40)[:7], 1)
    np.testing.assert_allclose(audio.shrink(spec, 32, 40)[9:], 0)


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_other_rates_give_the_same_picture(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1500, 1.0, rate), rate)
    wave = audio.load_clip(tmp_path / "a.wav", FRONT)
    assert wave.shape == (16000,) and wave.dtype == np.float32
    middle = slice(500, -500)
    np.testing.assert_allclose(wave[middle], tone(1500)[middle], atol=0.01)


def test_stereo_is_averaged(tmp_path):
    both = np.stack([tone(500), tone(900)], 1)
    soundfile.write(tmp_path / "a.wav", both, 16000, subtype="FLOAT")
    np.testing.assert_allclose(
        audio.load_clip(tmp_path / "a.wav", FRONT), both.mean(1), atol=1e-6
    )


@pytest.mark.parametrize("rate", [8000, 16000, 96000])
def test_one_sample(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.array([0.5]), rate)
    x = audio.features([tmp_path / "a.wav"], FRONT)
    assert x.shape == (1, 32, 40, 1) and np.isfinite(x).all()


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "WAV"])
def test_formats(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tone(1000), 16000)
    spec = audio.log_mel(audio.load_clip(path, FRONT), FRONT)
    assert abs(spec.mean(1).argmax() - nearest_band(1000, FRONT)) <= 1
    with path.open("rb") as file:
        again = audio.load_clip(file, FRONT)
    np.testing.assert_array_equal(again, audio.load_clip(path, FRONT))


def write_bad(path: pathlib.Path, kind: str):
    if kind == "text":
        path.write_text("this is no sound\n" * 100)
    elif kind == "no bytes":
        path.write_bytes(b"")
    elif kind == "cut header":
        soundfile.write(path, tone(500), 16000)
        path.write_bytes(path.read_bytes()[:30])
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("nan", "inf"):
        wave = tone(500)
        wave[7] = float(kind)
        soundfile.write(path, wave, 16000, subtype="FLOAT")
    elif kind == "huge":
        soundfile.write(path, 1e38 * tone(500), 16000, subtype="FLOAT")
    elif kind == "opposite":
        both = np.stack([tone(500), -tone(500)], axis=1)
        soundfile.write(path, both, 16000)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "cannot be read"),
        ("no bytes", "cannot be read"),
        ("cut header", "cannot be read|no samples"),
        ("no samples", "no samples"),
        ("nan", "NaN or infinite"),
        ("inf", "NaN or infinite"),
        ("huge", "beyond 1e.06 where full scale is 1"),
        ("opposite", "cancel each other out"),
        ("missing", "no such file"),
        ("folder", "no such file|cannot be read"),
    ],
)
def test_bad_files_are_named(tmp_path, kind, words):
    path = tmp_path / "bad.wav"
    write_bad(path, kind)
    with pytest.raises(UserError, match=words) as caught:
        audio.features([path], FRONT)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_checked():
    with pytest.raises(UserError, match="hop is 0"):
        audio.FrontEnd(hop=0)
    with pytest.raises(UserError, match="seconds is nan"):
        audio.FrontEnd(seconds=float("nan"))


def fail(*_):
    raise AssertionError("computed again")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(800), 16000)
    return path


def cache_files():
    return sorted((cache.cache_dir() / "features").iterdir())


def test_cache_is_hit(clip, monkeypatch):
    first = audio.features([clip], FRONT)
    monkeypatch.setattr(audio, "log_mel", fail)
    np.testing.assert_array_equal(audio.features([clip], FRONT), first)
    assert [path.suffix for path in cache_files()] == [".npz"]


def test_cache_depends_on_settings_and_files(clip, monkeypatch):
    audio.features([clip], FRONT)
    monkeypatch.setattr(audio, "log_mel", fail)
    with pytest.raises(AssertionError):
        audio.features([clip], audio.FrontEnd(seconds=1.0, top_db=60.0))
    with pytest.raises(AssertionError):
        audio.features([clip, clip], FRONT)
    soundfile.write(clip, tone(900, 2.0), 16000)
    with pytest.raises(AssertionError):
        audio.features([clip], FRONT)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_damaged_cache_is_computed_again(clip, damage):
    first = audio.features([clip], FRONT)
    (path,) = cache_files()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 255
    else:
        data = {"cut": data[: len(data) // 2], "empty": b"", "text": b"no"}[
            damage
        ]
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.features([clip], FRONT), first)
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["inputs"], first)


def test_unwritable_cache_costs_only_the_cache(clip, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("HTMAML_CACHE", str(blocked))
    assert audio.features([clip], FRONT).shape == (1, 32, 40, 1)


def test_full_disk_leaves_nothing_behind(clip, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert audio.features([clip], FRONT).shape == (1, 32, 40, 1)
    assert cache_files() == []


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("HTMAML_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "htmaml_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "htmaml_jax"
