"""Configs: what may be set and changed, and what is refused."""

import argparse
import json
import pathlib

import pytest
from refusals import parsed, refused

from htmaml_jax import cli, config, limits, presets
from htmaml_jax.errors import UserError
from htmaml_jax.run import workdir as workdirs

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / "configs").glob("*.py"))


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
        # Commas in brackets belong to the value.
        (
            'hyper.rules=(("a/.*", "gate"), ("b", "add")),way=3',
            {
                "hyper.rules": (("a/.*", "gate"), ("b", "add")),
                "data.way": 3,
                "eval.way": 3,
            },
        ),
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


def test_how_domains_are_joined_is_nothing_to_a_run_of_one():
    old, new = config.default(), config.default()
    old.joint.weigh = "uncertainty"
    assert config.differences(old, new) == []
    for one in (old, new):
        one.joint.parts = (("audio", "configs/asc.py"),)
    said = config.differences(old, new)
    assert said == ["joint.weigh: uncertainty -> none"]


def test_differences_see_new_fields_and_changed_rules():
    old = record("inner.steps=1")
    del old["inner"]["size"]
    old["hyper"]["rules"][1] = ["body/.*", "gate"]
    # A field younger than the run counts as its default.
    lines = config.differences(old, parsed(""))
    assert [x.split(":")[0] for x in lines] == ["hyper.rules", "inner.steps"]
    lines = config.differences(old, parsed("inner.size=0.2"))
    assert lines[1:] == ["inner.size: 0.1 -> 0.2", "inner.steps: 1 -> 3"]


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


def test_what_a_file_chooses_heeds_and_yields_to_what_is_set_by_hand():
    def tune(config):
        if config.hyper.head == "prototype":
            config.hyper.sharpness, config.inner.size = 3.0, 0.5

    text = "system=maml,hyper.head=prototype,inner.size=0.25"
    fields = config.parse(config.default(), text, tune)
    assert (fields.hyper.sharpness, fields.inner.size) == (3.0, 0.25)
    assert config.parse(config.default(), None, tune).hyper.sharpness == 0.0


@pytest.mark.parametrize("arg", ["way=1", "data.min_way=1", "eval.way=1"])
def test_of_one_class_there_is_nothing_to_tell(arg):
    refused(lambda: limits.check(parsed(arg)), "nothing to tell apart")


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("configs/asc.py:data.limit=5", "data.limit is for data.name=hate"),
        ("configs/intent.py:data.train=en", "data.train is for hate and xsid"),
        ("configs/intent.py:data.name=texts,data.fold=3", "have no folds"),
        ("configs/asc.py:data.name=commands,data.recording=(x)", "of your own"),
    ],
)
def test_settings_of_other_data_are_refused(arg, words):
    refused(lambda: cli.read_config(str(ROOT / arg), []), words)


def test_every_stored_result_has_a_config_that_can_be_restored():
    """But those of volumes from before augmentation was checked for them."""
    refusals, seen = {}, set()
    for path in sorted((ROOT / "results").glob("*/*.json")):
        stored = json.loads(path.read_text()).get("config", {})
        text = json.dumps(stored)
        if "system" not in stored or text in seen:
            continue
        seen.add(text)
        try:
            cli.restore_config(stored)
        except UserError as error:
            refusals[str(path.relative_to(ROOT))] = str(error)
    assert len(seen) > 300
    assert all("+short" in p for p in refusals), refusals
    assert all("pretrain.time_mask" in x for x in refusals.values())


def test_interrupting_a_door_says_what_is_so_then(capsys):
    def stopped(argv):
        raise KeyboardInterrupt

    for words, said in (((), "nothing was written"), (("it goes on",), "on")):
        with pytest.raises(SystemExit) as caught:
            cli.door(stopped, *words)
        assert caught.value.code == 130
        assert capsys.readouterr().err.strip().endswith(f"{said}.")
