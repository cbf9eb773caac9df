"""Finding the data: the order of places, and what is refused."""

import dataclasses
import sys
import types

import jax
import numpy as np
import pytest
from refusals import refused

from htmaml_jax import config
from htmaml_jax.data import clips, draw, esc, esc_tree, find, synthetic
from htmaml_jax.data.table import Scale


@dataclasses.dataclass(frozen=True)
class Read:
    """Stands for a table: which reader ran, and where."""

    reader: str
    origin: str


@pytest.fixture
def data():
    return config.default().data


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Empties every place that is looked into; readers only say so."""
    monkeypatch.delenv("HTMAML_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))

    def load_esc(which, front, splits, **where):
        return (which, *(f"{k}={v}" for k, v in where.items()))

    # The real one imports TFDS.
    builders = types.SimpleNamespace(load_esc=load_esc)
    monkeypatch.setitem(sys.modules, "htmaml_jax.data.builders", builders)
    monkeypatch.setattr(esc, "read_pack", lambda f, *_: Read("pack", str(f)))
    monkeypatch.setattr(
        clips, "read_folder", lambda f, *_: Read("clips", str(f))
    )
    monkeypatch.setattr(synthetic, "calls", lambda _: ("synthetic",))
    return tmp_path


def make(*folders):
    for folder in folders:
        folder.mkdir(parents=True)
    return folders[0]


def test_order(home, data, monkeypatch):
    """Adds one place after the other; each beats all before it."""
    assert find.load(data) == ("synthetic",)

    tfds = make(home / "tfds" / "esc50").parent
    assert find.load(data) == ("esc50", f"data_dir={tfds}")

    # A data folder without sounds that are known is passed over.
    make(home / "env" / "omniglot")
    monkeypatch.setenv("HTMAML_DATA", str(home / "env"))
    assert find.load(data) == ("esc50", f"data_dir={tfds}")
    pack = make(home / "env" / esc.PACK)
    assert find.load(data) == Read("pack", f"$HTMAML_DATA/{pack.name}")

    pack = make(home / "mine" / esc.PACK)
    data.dir = str(pack.parent)
    assert find.load(data) == Read("pack", str(pack))
    data.dir = str(pack)
    assert find.load(data) == Read("pack", str(pack))

    data.name = "synthetic-calls"
    assert find.load(data) == ("synthetic",)


def test_download_comes_before_synthetic_and_after_what_is_here(home, data):
    data.download = True
    where = f"data_dir={home / 'tfds'}"
    assert find.load(data) == ("esc50", where, "download=True")
    data.name = "esc10"
    assert find.load(data) == ("esc10", where, "download=True")
    make(home / "tfds" / "esc10")
    assert find.load(data) == ("esc10", where)
    data.name, data.dir = "auto", str(make(home / "mine" / esc.PACK))
    assert find.load(data).reader == "pack"


@pytest.mark.parametrize("tree", ["", "ESC-50-master", "ESC-50"])
@pytest.mark.parametrize("mark", ["ESC-50-master.zip", "meta/esc50.csv"])
def test_esc50_trees(home, data, tree, mark):
    folder = home / "mine" / tree
    make(folder / mark)
    data.dir = str(home / "mine")
    want = ("esc50", f"manual_dir={folder}")
    assert find.load(data) == want
    data.name = "esc50"
    # The pack beside it is another data set, which comes first in auto.
    make(home / "mine" / esc.PACK)
    assert find.load(data) == want
    data.name = "auto"
    assert find.load(data).reader == "pack"


def test_esc10_tree(home, data):
    data.name, data.dir = "esc10", str(home / "mine")
    tree = make(home / "mine" / "esc10_audio")
    assert find.load(data) == ("esc10", f"manual_dir={tree}")


def test_esc10_is_a_test_of_what_its_split_has_held_back(
    home, data, monkeypatch
):
    asked = []

    def load_esc(which, front, splits, **where):
        asked.append(splits)
        return (which,)

    monkeypatch.setattr(
        sys.modules["htmaml_jax.data.builders"], "load_esc", load_esc
    )
    make(home / "mine" / "esc10_audio")
    data.name, data.dir = "esc10", str(home / "mine")
    for data.split in ("metaaudio", "esc10"):
        find.load(data)
    ten = {esc.CLASSES[number] for number in esc_tree.TARGETS.values()}
    assert asked[0] is None
    assert {k: set(v) for k, v in asked[1].items()} == {"test": ten}


def test_own_clips(home, data, monkeypatch):
    make(home / "mine" / "frog")
    data.dir = str(home / "mine")
    assert find.load(data) == Read("clips", data.dir)
    data.name = "clips"
    assert find.load(data) == Read("clips", data.dir)
    # In the shared data folder they are taken only on request.
    data.dir = ""
    monkeypatch.setenv("HTMAML_DATA", str(home / "mine"))
    assert find.load(data) == Read("clips", "$HTMAML_DATA/.")
    data.name = "auto"
    assert find.load(data) == ("synthetic",)


def test_missing_folders_and_data(home, data, monkeypatch):
    data.dir = str(home / "gone")
    refused(lambda: find.load(data), "data.dir", home / "gone", "not a folder")
    data.dir = ""
    monkeypatch.setenv("HTMAML_DATA", str(home / "lost"))
    refused(
        lambda: find.load(data), "$HTMAML_DATA", home / "lost", "not a folder"
    )
    monkeypatch.delenv("HTMAML_DATA")
    for data.name in ("esc50", "esc50-pack", "esc10", "clips"):
        refused(
            lambda: find.load(data),
            data.name,
            "--config.data.dir",
            home / "tfds",
        )
    data.name, data.dir = "esc50-pack", str(make(home / "empty"))
    refused(
        lambda: find.load(data), home / "empty", "holds no esc50-pack", esc.PACK
    )
    data.name = "esc5O"
    refused(lambda: find.load(data), "'esc5O'", "esc50-pack", "synthetic-calls")


def test_standardise(tiny_table):
    table = tiny_table.standardised()
    train = np.isin(table.labels, table.of_split("train"))
    inputs = table.scale(table.inputs)
    assert abs(inputs[train].mean()) < 1e-5
    assert abs(inputs[train].std() - 1) < 1e-5
    # Other classes share the scale, so they need not have mean 0.
    assert abs(inputs[~train].mean()) > 1e-3
    # A scale that is given is that of the episodes.
    other = tiny_table.standardised(Scale([0.5], [2.0]))
    shape = draw.Shape(2, 1, 1, 2, 1)
    for mine, wanted in ((table, table.scale), (other, Scale([0.5], [2.0]))):
        source = find.source(mine, shape, "train", 0, "device")
        made = jax.jit(source.episodes)(
            source.shared, np.arange(1, dtype=np.int32)
        )
        pool = draw.make_pool(mine, "train", shape)
        rows = draw.draw(np, pool, shape, 0, 0, 0).support.reshape(-1)
        np.testing.assert_allclose(
            made.support.inputs[0], wanted(mine.inputs[rows]), atol=1e-5
        )


def test_shapes_of_episodes(data):
    assert find.training_shape(data) == draw.Shape(5, 1, 5, 5, 1)
    data.update(way=7, shot=3, query=2, min_way=4, min_shot=1)
    assert find.training_shape(data) == draw.Shape(7, 3, 2, 4, 1)
    judged = config.default().eval
    judged.update(way=6, shot=2, query=9)
    assert find.fixed_shape(judged) == draw.Shape(6, 2, 9, 6, 2)
    blank = find.blank_episode(data)
    assert blank.support.inputs.shape == (21, 32, 40, 1)
    assert np.bincount(blank.support.targets).tolist() == [3] * 7
