"""Clips of any length, and the front end's other levels and channels."""

import numpy as np
import pytest
import soundfile
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from htmaml_jax import adapt, train
from htmaml_jax.data import audio, windows
from htmaml_jax.errors import UserError
from htmaml_jax.run import step

FRONT = audio.FrontEnd(rate=100, seconds=0.4, window=16, hop=4, mels=8)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400))
def test_windows_cover_every_sample_and_overlap_by_half(count):
    wave = np.arange(1, count + 1, dtype=np.float32) + 1e3
    pieces = windows.cut(wave, FRONT)
    assert pieces.shape[1] == FRONT.samples == 40
    assert set(wave) <= set(pieces.ravel())
    if count >= 40:
        starts = pieces[:, 0] - wave[0]
        assert (np.diff(starts) <= 20).all() and (np.diff(starts) > 0).all()
        assert pieces[-1, -1] == wave[-1]


def test_a_clip_as_long_as_in_training_is_one_window():
    wave = np.random.default_rng(0).normal(size=40).astype(np.float32)
    np.testing.assert_array_equal(windows.cut(wave, FRONT), wave[None])
    np.testing.assert_array_equal(
        windows.cut(wave[:20], FRONT)[0], np.tile(wave[:20], 2)
    )


def test_windows_of_background_are_left_out():
    wave = 1e-3 * (-1.0) ** np.arange(400, dtype=np.float32)
    wave[200:240] *= 1e3
    # An offset is in all windows alike, and no sound.
    for offset in (0.0, 0.5):
        pieces = windows.cut(wave + np.float32(offset), FRONT)
        # Those that hold some of the sound: from 180, 200 and 220 on.
        assert len(pieces) == 3 and (pieces.max(1) == 1 + offset).all()
    assert len(windows.cut(np.zeros(400, np.float32), FRONT)) == 19


def test_listening_leaves_nothing_out(tmp_path):
    wave = np.zeros(130, np.float32)
    wave[:40] = np.sin(np.arange(40))
    soundfile.write(tmp_path / "a.wav", wave, FRONT.rate, subtype="FLOAT")
    found = windows.listen(tmp_path / "a.wav", FRONT)
    np.testing.assert_allclose(found.starts, [0, 0.2, 0.4, 0.6, 0.8, 0.9])
    assert found.inputs.shape == (6, FRONT.rows, FRONT.columns, 1)
    assert found.seconds == 1.3
    assert found.levels[0] == pytest.approx(-3, abs=0.1)
    assert (found.levels[2:] == -120).all()
    soundfile.write(tmp_path / "b.wav", wave[:13], FRONT.rate)
    found = windows.listen(tmp_path / "b.wav", FRONT)
    assert len(found.inputs) == 1 and found.seconds == 0.13


@pytest.mark.parametrize("rate", [FRONT.rate, 250])
def test_a_night_is_heard_piece_by_piece(tmp_path, monkeypatch, rate):
    """As if it were read at once, however it is cut into pieces."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, (5000, 2)).astype(np.float32)
    path = tmp_path / "night.wav"
    soundfile.write(path, wave, rate, subtype="FLOAT")
    whole = audio.load_clip(path, FRONT)
    found = windows.listen(path, FRONT)
    monkeypatch.setattr(windows, "_BLOCK", 173)
    pieces = list(windows.stream(path, FRONT))
    assert max(map(len, pieces)) < len(whole) / 2 and len(pieces) > 20
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
    other = windows.listen(path, FRONT)
    size = FRONT.samples
    starts = [*range(0, len(whole) - size, size // 2), len(whole) - size]
    for heard in (found, other):
        np.testing.assert_allclose(heard.starts, np.array(starts) / FRONT.rate)
        assert heard.seconds == len(whole) / FRONT.rate
        pictures = [audio.picture(whole[i : i + size], FRONT) for i in starts]
        np.testing.assert_allclose(heard.inputs, pictures, atol=1e-3)


def test_a_night_that_cannot_be_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "_BLOCK", 100)
    noise = np.random.default_rng(0).normal(0, 0.1, 1000).astype(np.float32)
    bad = noise.copy()
    bad[700] = np.nan
    for name, wave, words in (
        ("nan", bad, "holds NaN"),
        ("none", noise[:0], "holds no samples"),
        ("both", np.stack([noise, -noise], 1), "cancel each other out"),
    ):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, wave, FRONT.rate, subtype="FLOAT")
        with pytest.raises(UserError, match=f"{name}.wav: .*{words}"):
            windows.listen(path, FRONT)
    (tmp_path / "text.wav").write_text("no sound")
    for name, words in (("text.wav", "cannot be read"), ("x.wav", "no such")):
        with pytest.raises(UserError, match=words):
            windows.listen(tmp_path / name, FRONT)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model after two steps; its arithmetic is all that counts here."""
    root = tmp_path_factory.mktemp("windows")
    clips = tiny.write_clips(root / "clips")
    fields = {"system": "maml", "train.steps": 2}
    train.main(tiny.arguments(clips, root / "run", **fields))
    return adapt.load(root / "run")


@pytest.mark.slow
def test_windows_share_a_clip_and_their_logits_are_averaged(
    model, tmp_path, monkeypatch
):
    front = model._front
    rng = np.random.default_rng(0)
    size = front.samples

    def write(name, wave):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, wave, front.rate, subtype="FLOAT")
        return path

    def sound(count):
        pitch = rng.uniform(0.01, 0.4, 2)
        ramp = np.arange(count)[:, None]
        return (0.2 * np.sin(np.pi * pitch * ramp).sum(1)).astype("f4")

    few = {
        name: [write(f"{name}{i}", sound(size)) for i in range(2)]
        for name in "ab"
    }
    specialist = model.adapt(few)
    long = np.concatenate([sound(size), sound(size)])
    parts = [long[:size], long[size // 2 :][:size], long[size:]]
    whole = specialist.predict([write("long", long)])[0]
    each = specialist.predict(
        [write(f"part{i}", part) for i, part in enumerate(parts)]
    )
    logs = np.log([[g.probabilities[n] for n in "ab"] for g in each])
    odds = np.exp(logs.mean(0))
    wanted = odds / odds.sum()
    got = [whole.probabilities[n] for n in "ab"]
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    heard = specialist.listen(tmp_path / "long.wav")
    for found, part, one, start in zip(
        heard, parts, each, (0, 0.5, 1), strict=True
    ):
        assert (found.start, found.end) == (
            pytest.approx(start * size / front.rate),
            pytest.approx((start + 1) * size / front.rate),
        )
        assert found[2:4] == (one.name, pytest.approx(one.probability, 1e-4))
        assert found.level == pytest.approx(10 * np.log10(part.var()), 1e-3)
    seen = []
    monkeypatch.setattr(step, "specialise", lambda *args: seen.append(args[2]))
    model.adapt({"a": [write("long", long)], "b": few["b"]})
    third = np.float32(1 / 3)
    np.testing.assert_array_equal(seen[0].targets, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(seen[0].mask, [third, third, third, 1, 1])


def test_deltas_and_pcen():
    rng = np.random.default_rng(0)
    front = audio.FrontEnd(seconds=1.0, channels=3)
    wave = rng.normal(size=16000).astype(np.float32)
    # Louder and louder: the level rises, its delta is positive throughout.
    x = audio.picture(wave * np.linspace(0.01, 1, 16000, dtype="f4"), front)
    assert x.shape == (32, 40, 3) and x.min() >= 0 and x.max() <= 1
    assert x[..., 1].mean() > 0.5
    y = audio.picture(wave * np.linspace(1, 0.01, 16000, dtype="f4"), front)
    assert y[..., 1].mean() < 0.5
    assert abs(x[..., 2].mean() - 0.5) < 0.1
    pcen = audio.FrontEnd(seconds=1.0, level="pcen")
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    late = (0.3 * wave / np.abs(wave).max()).astype("f4")
    late[8000:] += tone[8000:].astype("f4")
    spec = audio.log_mel(late, pcen)
    assert spec.dtype == np.float32 and spec.min() >= 0 and spec.max() == 1
    row = spec[:, -8:].mean(1).argmax()
    # What lasts fades into the background, its onset stands out.
    assert spec[row, 15:18].mean() > 1.2 * spec[row, -3:].mean()
    assert not audio.log_mel(np.zeros(16000, "f4"), pcen).any()


def test_settings_that_do_not_exist():
    with pytest.raises(UserError, match="level is db; choose from log, pcen"):
        audio.FrontEnd(level="db")
    with pytest.raises(UserError, match="channels is 4; choose from 1, 2, 3"):
        audio.FrontEnd(channels=4)


def test_older_caches_keep_their_names():
    assert "level" not in audio.FrontEnd().asdict()
    assert audio.FrontEnd(level="pcen").asdict()["level"] == "pcen"
