"""Synthetic calls: pure, varied, learnable and not trivial."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from htmaml_jax.data import audio, synthetic
from htmaml_jax.errors import UserError

FRONT = audio.FrontEnd()
SHORT = audio.FrontEnd(seconds=1.0)


def prototype_accuracy(table, episodes=400, way=5):
    """Classifies by the nearest single example of another recording."""
    rng = np.random.default_rng(0)
    flat = table.inputs.reshape(len(table.inputs), -1)
    hits = []
    for _ in range(episodes):
        support, queries = [], []
        for label in rng.choice(len(table.classes), way, replace=False):
            rows = rng.permutation(np.flatnonzero(table.labels == label))
            support.append(flat[rows[0]])
            other = table.recordings[rows] != table.recordings[rows[0]]
            queries.append(flat[rows[other][0]])
        far = np.square(np.stack(queries)[:, None] - np.stack(support))
        hits.append(far.sum(-1).argmin(1) == np.arange(way))
    return np.mean(hits)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("HTMAML_CACHE", str(cache))
        return synthetic.calls(FRONT, species=24, clips=12)


def test_render_is_a_pure_function_of_its_index():
    waves = [synthetic.render(3, 5, c, SHORT) for c in range(4)]
    for c in (2, 0):
        again = synthetic.render(3, 5, c, SHORT)
        np.testing.assert_array_equal(again, waves[c])
    for a, b in itertools.combinations(waves, 2):
        assert np.abs(a - b).max() > 0.01
    others = synthetic.render(4, 5, 0, SHORT), synthetic.render(3, 6, 0, SHORT)
    for other in others:
        assert np.abs(other - waves[0]).max() > 0.01


def test_render_is_the_same_in_another_process():
    code = (
        "from htmaml_jax.data import audio, synthetic; import hashlib;"
        "w = synthetic.render(1, 2, 3, audio.FrontEnd(seconds=1.0));"
        "print(hashlib.sha256(w.tobytes()).hexdigest())"
    )
    run = [sys.executable, "-c", code]
    outputs = {subprocess.check_output(run) for _ in range(2)}
    assert len(outputs) == 1


@pytest.mark.parametrize("rate", [8000, 44100])
def test_waves_are_whole_and_within_range(rate):
    front = audio.FrontEnd(rate=rate, seconds=1.5)
    for species in range(12):
        wave = synthetic.render(0, species, 0, front)
        assert wave.shape == (round(1.5 * rate),)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert 0.01 < np.abs(wave).max() <= 1


def test_very_short_clips_render():
    front = audio.FrontEnd(seconds=0.05)
    for species in range(12):
        assert np.isfinite(synthetic.render(0, species, 0, front)).all()


def test_table_is_whole(table):
    assert table.inputs.shape == (24 * 12, 32, 40, 1)
    assert table.inputs.dtype == np.float32
    assert 0 <= table.inputs.min() and table.inputs.max() <= 1
    assert list(table.classes) == sorted(table.classes)
    assert table.classes[7] == "species-07"
    np.testing.assert_array_equal(np.bincount(table.labels), np.full(24, 12))
    # Three clips each, and no recording holds two species.
    np.testing.assert_array_equal(np.bincount(table.recordings), 3)
    owners = set(zip(table.recordings, table.labels, strict=True))
    assert len(owners) == 24 * 4
    names = [set(table.splits[s]) for s in ("train", "validation", "test")]
    assert [len(n) for n in names] == [15, 3, 6]
    assert set.union(*names) == set(table.classes)


def test_recordings_sound_alike_and_individuals_differ(table):
    """Distances: same recording < same species < other species, on average."""
    flat = table.inputs.reshape(len(table.inputs), -1)
    apart = np.sqrt(np.square(flat[:, None] - flat[None]).mean(-1))
    same = table.labels[:, None] == table.labels
    together = table.recordings[:, None] == table.recordings
    itself = np.eye(len(flat), dtype=bool)
    recording = apart[together & ~itself]
    individuals = apart[same & ~together]
    assert recording.min() > 0.005
    assert recording.mean() < 0.9 * individuals.mean()
    assert individuals.mean() < 0.9 * apart[~same].mean()


def test_prototypes_of_raw_features_are_learnable_not_trivial(table):
    accuracy = prototype_accuracy(table)
    assert 0.40 < accuracy < 0.80, accuracy


def test_cache_is_keyed_by_settings_and_seed(monkeypatch, tmp_path):
    monkeypatch.setenv("HTMAML_CACHE", str(tmp_path))
    small = {"species": 3, "clips": 2}
    first = synthetic.calls(SHORT, **small)

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(synthetic, "render", fail)
    again = synthetic.calls(SHORT, **small)
    assert again.fingerprint == first.fingerprint
    for change in (
        {"seed": 1},
        {"clips": 3},
        {"front": audio.FrontEnd(seconds=1.0, mels=64)},
    ):
        with pytest.raises(AssertionError):
            synthetic.calls(**{"front": SHORT, **small, **change})


def test_bad_numbers_are_refused():
    for numbers in ({"species": 2}, {"clips": 0}, {"seed": -1}):
        with pytest.raises(UserError, match="synthetic calls"):
            synthetic.calls(FRONT, **numbers)
