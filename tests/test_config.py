"""Configs: what may be set, what is refused, and every file in configs/."""

import argparse
import ast
import json
import pathlib

import pytest

from htmaml_jax import cli, config, limits, presets
from htmaml_jax.errors import UserError
from htmaml_jax.run import workdir as workdirs

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


def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def parsed(arg):
    return config.parse(config.default(), arg)


def changed(arg):
    """Returns the fields that the text after the colon changes."""
    old, new = config.flat(config.default()), config.flat(parsed(arg))
    assert old.keys() == new.keys()
    return {k: v for k, v in new.items() if v != old[k]}


# What HT-MAML's row has beyond MAML's.
MAML = {"embed.kind": "none", "hyper.kind": "identity"}


@pytest.mark.parametrize(
    ("arg", "want"),
    [
        (None, {}),
        ("", {}),
        ("way=7", {"data.way": 7, "eval.way": 7}),
        ("shot=3", {"data.shot": 3, "eval.shot": 3}),
        ("query=9", {"data.query": 9, "eval.query": 9}),
        ("seed=2", {"run.seed": 2}),
        ("steps=5", {"train.steps": 5}),
        ("split=metaaudio", {"data.split": "metaaudio"}),
        (
            "system=maml,shot=2,eval.shot=4",
            {"system": "maml", "data.shot": 2, "eval.shot": 4} | MAML,
        ),
        ("outer.augment.roll=0.5", {"outer.augment.roll": 0.5}),
        ("eval.transductive=True", {"eval.transductive": True}),
        ("data.download=true", {"data.download": True}),
        # Text stays text, whatever it looks like.
        ("data.dir=5", {"data.dir": "5"}),
        ("data.recording=a=(b)", {"data.recording": "a=(b)"}),
    ],
)
def test_text_after_the_colon(arg, want):
    assert changed(arg) == want


def test_a_system_fills_slots_before_other_fields_are_set():
    """Wherever it stands; and what a row says can be overridden."""
    twice = "system=mmaml,system=htmaml"
    assert changed(twice) == {}
    for arg in ("inner.steps=2,system=protonet", "system=protonet"):
        got = changed(arg)
        assert got["hyper.head"] == "prototype"
        assert got["inner.steps"] == (2 if "steps" in arg else 0)
    assert changed("system=htmaml") == {}
    lines = config.differences(record(), parsed("system=maml"))
    assert lines == [
        "embed.kind: set -> none",
        "hyper.kind: generator -> identity",
        "system: htmaml -> maml",
    ]
    # Every row touches only fields that exist, with values of their type.
    known = config.flat(config.default())
    for row in (presets.NEUTRAL, *presets.PRESETS.values()):
        for path, value in row.items():
            assert type(known[path]) is type(value), path


def test_integers_are_taken_for_floats():
    rate = parsed("outer.rate=1").outer.rate
    assert rate == 1.0 and type(rate) is float
    assert parsed("outer.rate=2e-4").outer.rate == 2e-4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("train.steps=5.0", "int"),
        ("train.steps=many", "int"),
        ("train.steps=", "int"),
        ("train.steps=True", "int"),
        ("outer.rate=fast", "float"),
        ("outer.rate=True", "float"),
        ("data.download=1", "bool"),
        ("hyper.rules=affine", "tuple"),
    ],
)
def test_wrong_types(text, kind):
    name, value = text.split("=")
    refused(lambda: parsed(text), repr(name), kind, repr(value))


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("train.step=5", "'train.steps'"),
        ("sytem=maml", "'system'"),
        ("shots=5", "'shot'"),
        ("inner.stps=1", "'inner.steps'"),
        ("outer.augment.rol=0.1", "'outer.augment.roll'"),
    ],
)
def test_misspelt_keys_bring_a_suggestion(text, close):
    name = repr(text.split("=")[0])
    refused(lambda: parsed(text), f"no field {name}", f"did you mean {close}?")


def test_other_refusals_of_the_text():
    refused(lambda: parsed("zzz=1"), "no field 'zzz'")
    refused(lambda: parsed("outer.augment=1"), "no field 'outer.augment'")
    refused(lambda: parsed("shot"), "'shot'", "not name=value")


def test_configs_are_locked():
    with pytest.raises(AttributeError):
        parsed("").outer.rat = 1.0
    with pytest.raises(KeyError):
        parsed("")["sytem"] = "maml"
    with pytest.raises(TypeError):
        parsed("").train.steps = "many"


def record(arg=None):
    """Returns a config as a run's record gives it back."""
    return json.loads(json.dumps(parsed(arg).to_dict()))


def test_differences_ignore_what_may_change():
    assert config.differences(record(), parsed("")) == []
    free = (
        "steps=9,eval.way=3,eval.shot=4,eval.episodes=9,eval.seed=5,"
        "eval.transductive=True,run.chunk=2,run.devices=1,log.every=1,"
        "data.dir=elsewhere,data.download=True,data.loader=tfdata"
    )
    assert len(changed(free)) == 12
    assert config.differences(record(), parsed(free)) == []


@pytest.mark.parametrize(
    ("arg", "line"),
    [
        ("seed=1", "run.seed: 0 -> 1"),
        ("data.way=20", "data.way: 5 -> 20"),
        ("train.tasks=4", "train.tasks: 8 -> 4"),
        ("train.val_episodes=9", "train.val_episodes: 200 -> 9"),
        ("data.split=metaaudio", "data.split: animals -> metaaudio"),
        ("outer.augment.mix=0.5", "outer.augment.mix: 0.0 -> 0.5"),
    ],
)
def test_differences_name_what_may_not(arg, line, tmp_path):
    assert config.differences(record(), parsed(arg)) == [line]
    refused(
        lambda: workdirs.refuse_change(
            tmp_path, {"config": record()}, parsed(arg)
        ),
        str(tmp_path),
        line,
        "--workdir",
    )


def test_differences_see_new_fields_and_changed_rules():
    old = record("inner.steps=1")
    del old["inner"]["size"]
    old["hyper"]["rules"][1] = ["body/.*", "gate"]
    lines = config.differences(old, parsed(""))
    assert [line.split(":")[0] for line in lines] == [
        "hyper.rules",
        "inner.size",
        "inner.steps",
    ]
    assert lines[1:] == ["inner.size: absent -> 0.1", "inner.steps: 1 -> 3"]


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


def test_overrides_are_parted_from_flags():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    args = ["--config.inner.steps=3", "--config", "a.py", "--config.data.dir="]
    flags, overrides = cli.parse(parser, args)
    assert flags.config == "a.py"
    assert overrides == [("inner.steps", "3"), ("data.dir", "")]
    refused(
        lambda: cli.parse(parser, ["--config.inner.steps", "3"]),
        "--config.inner.steps needs a value",
        "--config.inner.steps=VALUE",
    )


def test_restoring_a_config():
    fields = record("system=maml,shot=2")
    assert config.differences(fields, cli.restore_config(fields)) == []
    got = cli.restore_config(
        fields, [("eval.shot", "5"), ("data.dir", "x"), ("run.devices", "1")]
    )
    assert (got.eval.shot, got.data.shot, got.data.dir) == (5, 2, "x")
    assert got.system == "maml" and got.is_locked
    refused(lambda: cli.restore_config(fields, [("eval.way", "0")]), "eval.way")
    refused(
        lambda: cli.restore_config(fields, [("eval.sot", "1")]), "'eval.shot'"
    )


@pytest.mark.parametrize(
    "name",
    "train.steps outer.rate inner.steps net.width embed.dim system".split(),
)
def test_training_fields_of_a_finished_run_stay(name):
    refused(
        lambda: cli.restore_config(record(), [(name, "1")]),
        name,
        "belongs to training",
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
