"""Finding the data: the order of places, and what is refused."""

import csv
import dataclasses
import sys
import types
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from htmaml_jax import config
from htmaml_jax.data import clips, draw, esc, esc_tree, find, synthetic
from htmaml_jax.data.audio import FrontEnd
from htmaml_jax.data.table import Scale
from htmaml_jax.errors import UserError

ARCHIVE = "esc50_logmel_gray.zip"


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


def refused(data, *words):
    with pytest.raises(UserError) as caught:
        find.load(data)
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value)


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
    refused(data, "data.dir", home / "gone", "not a folder")
    data.dir = ""
    monkeypatch.setenv("HTMAML_DATA", str(home / "lost"))
    refused(data, "$HTMAML_DATA", home / "lost", "not a folder")
    monkeypatch.delenv("HTMAML_DATA")
    for data.name in ("esc50", "esc50-pack", "esc10", "clips"):
        refused(data, data.name, "--config.data.dir", home / "tfds")
    data.name, data.dir = "esc50-pack", str(make(home / "empty"))
    refused(data, home / "empty", "holds no esc50-pack", esc.PACK)
    data.name = "esc5O"
    refused(data, "'esc5O'", "esc50-pack", "synthetic-calls")


@pytest.fixture
def pack(tmp_path):
    """Writes a pack of three pictures, white above a black lower half."""
    folder = make(tmp_path / "mine" / esc.PACK)
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
    refused(data, pack / ARCHIVE, "lacks 2 of 3", "b.png")
    (pack / ARCHIVE).write_bytes(whole[:-100])
    refused(data, pack / ARCHIVE, "damaged")
    (pack / ARCHIVE).write_bytes(whole.replace(b"IDAT", b"IDAX"))
    refused(data, pack / ARCHIVE, "damaged")
    (pack / ARCHIVE).unlink()
    refused(data, pack / ARCHIVE, "is missing")
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
        refused(data, pack / "meta.csv", "copy the file again")
    (pack / "meta.csv").unlink()
    refused(data, pack / "meta.csv", "is missing", "copy it again")


def test_picture_that_is_none(pack, data):
    data.dir = str(pack)
    with zipfile.ZipFile(pack / ARCHIVE, "w") as archive:
        for name in "abc":
            archive.writestr(f"{name}.png", b"no picture")
    refused(data, pack / ARCHIVE, "damaged")


def test_unknown_class_split(pack, data):
    data.dir, data.split = str(pack), "animal"
    refused(
        data, "data.split 'animal'", "animals, development, esc10, metaaudio"
    )


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
