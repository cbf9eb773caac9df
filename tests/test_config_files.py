"""Config files: how they are read, and every file in configs/."""

import ast
import pathlib

import pytest
from refusals import parsed, refused

from htmaml_jax import cli, config, limits, multimodal

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / "configs").glob("*.py"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from htmaml_jax import config\n\n\n"
        "def get_config(arg=None):\n"
        "    c = config.default()\n"
        "    c.train.steps = 77\n"
        "    return config.parse(c, arg)\n"
    )
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("way=0", ("data.way is 0", "at least 1")),
        ("eval.episodes=0", ("eval.episodes is 0",)),
        ("steps=-1", ("train.steps is -1",)),
        ("train.tasks=0", ("train.tasks is 0",)),
        ("log.every=0", ("log.every is 0",)),
        ("inner.steps=-1", ("inner.steps is -1", "0 or more")),
        ("net.blocks=6", ("net.blocks=6", "only 32", "fewer blocks")),
        ("net.width=12", ("net.width is 12", "multiple of 8")),
        ("data.columns=8", ("net.blocks=4", "only 8")),
        ("data.loader=torch", ("data.loader", "'torch'", "device, tfdata")),
        ("net.grow=0", ("net.grow is 0", "at least 1")),
        ("net.length=-1.0", ("net.length is -1.0", "0 or more")),
        ("net.norm=batch", ("net.norm", "'batch'", "group")),
        ("net.pool=max", ("net.pool", "'max'", "flat")),
        ("net.down=max", ("net.down", "'max'", "stride")),
        ("data.min_way=6", ("data.min_way is 6", "0 (fixed)", "and 5")),
        ("data.min_shot=2", ("data.min_shot is 2", "and 1")),
        ("data.min_way=-1", ("data.min_way is -1",)),
        ("run.devices=-1", ("run.devices is -1", "0 or more")),
        ("run.chunk=-2", ("run.chunk is -2", "0 or more")),
        ("hyper.heads=3", ("hyper.dim is 64", "hyper.heads, 3")),
        ("hyper.dropout=1.0", ("hyper.dropout is 1.0", "below 1")),
        ("outer.warmup=1.5", ("outer.warmup is 1.5", "below 1")),
        ("outer.clip=0.0", ("outer.clip is 0.0", "positive")),
        ("outer.augment.roll=-0.1", ("outer.augment.roll is -0.1",)),
        ("outer.rate=1e999", ("outer.rate is inf", "positive")),
        ("seed=-1", ("run.seed is -1",)),
    ],
)
def test_values_that_cannot_work(file, text, words):
    refused(lambda: limits.check(parsed(text)), *words)
    refused(lambda: cli.read_config(f"{file}:{text}", []), *words)
    name, value = text.split("=")
    if "." in name:  # overrides are checked as well
        refused(lambda: cli.read_config(str(file), [(name, value)]), *words)


def test_edges_that_do_work():
    limits.check(parsed("inner.steps=0,net.blocks=5,data.min_way=5"))


def test_reading_a_config(file):
    got, name = cli.read_config(str(file), [])
    assert (name, got.train.steps, got.system) == ("mine", 77, "htmaml")
    got, _ = cli.read_config(
        f"{file}:steps=5,shot=2", [("train.steps", "6"), ("system", "maml")]
    )
    assert (got.train.steps, got.data.shot, got.system) == (6, 2, "maml")
    assert got.is_locked
    refused(lambda: cli.read_config(f"{file}:stps=5", []), "'steps'")
    refused(lambda: cli.read_config(str(file), [("run.sed", "1")]), "run.seed")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c.train.step = 5", ("step",)),
        ("c.outer.augment.update(rol=0.5)", ("rol",)),
        ("c.train.steps = 'many'", ("many", "int")),
        ("c = {}", ("other fields",)),
        ("1 / 0", ("ZeroDivisionError",)),
    ],
)
def test_config_files_that_fail(file, line, words):
    text = file.read_text().replace("c.train.steps = 77", line)
    file.write_text(text.replace("config.parse(c, arg)", "c"))
    refused(lambda: cli.read_config(str(file), []), "mine.py", *words)


@pytest.mark.parametrize(
    "rules", [("affine",), (("a", "b", "c"),), ((1, "affine"),)]
)
def test_rules_that_are_no_pairs(file, rules):
    text = file.read_text().replace(
        "c.train.steps = 77", f"c.hyper.rules = {rules!r}"
    )
    file.write_text(text)
    refused(lambda: cli.read_config(str(file), []), "hyper.rules", "pair")


@pytest.mark.parametrize("name", ["gone.py", "gone", "gone.py:shot=5"])
def test_config_that_does_not_exist(tmp_path, name):
    refused(
        lambda: cli.read_config(str(tmp_path / name), []),
        str(tmp_path / "gone.py"),
        "does not exist",
        "configs/asc.py",
    )


def test_there_are_configs():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_config_files(path):
    got, name = cli.read_config(str(path), [])
    assert name == path.stem and got.is_locked
    assert cli.read_config(f"{path}:steps=3", [])[0].train.steps == 3
    source = path.read_text()
    assert len(source.splitlines()) <= 60
    opening = ast.get_docstring(ast.parse(source)) or ""
    command = f"python -m htmaml_jax.train --config configs/{path.name}"
    assert command in opening
    for part in ("Task", "Data", "Command", "Hardware", "Minutes", "Result"):
        assert any(line.startswith(part) for line in opening.splitlines())
    # The form for a GPU is larger in every field that it sets.
    full, _ = cli.read_config(f"{path}:full", [])
    assert full.train.steps > got.train.steps
    fields = config.flat(got)
    for key, value in config.flat(full).items():
        if isinstance(value, int):
            assert value >= fields[key], key
    assert cli.read_config(f"{path}:full,steps=3", [])[0].train.steps == 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_controls_of_config_files(path):
    """What README names as controls is taken by every file, one flag each."""
    for control in (
        "embed.control=constant",
        "embed.control=shuffled",
        "inner.steps=0",
        "system=maml",
        "system=reptile",
    ):
        cli.read_config(f"{path}:{control}", [])


def test_what_volumes_have_among_other_domains():
    """Heads from prototypes are HT-MAML's; rivals keep their own."""
    for system, head in (("htmaml", "prototype"), ("maml", "shared")):
        wanted = f"configs/multimodal.py:system={system}"
        parts = multimodal.configs_of(cli.read_config(wanted, [])[0])
        assert parts["volumes"].hyper.head == head
        assert parts["volumes"].data.name == "synthseg+acdc"
        assert parts["volumes"].inner.rates == "layer"


def test_full_needs_a_form(file):
    refused(lambda: cli.read_config(f"{file}:full", []), "'full'")
