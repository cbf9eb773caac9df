"""Several domains in one run, through the door."""

import jax
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict
from refusals import refused

from htmaml_jax import (
    adapt,
    cli,
    config,
    domain,
    evaluate,
    multimodal,
    train,
)
from htmaml_jax.errors import UserError
from htmaml_jax.run import checkpoints, joint, logs, signals

CONFIG = """
from htmaml_jax import config

def get_config(arg=None):
    c = config.default()
    c.joint.parts = {parts!r}
    return config.parse(c, arg)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Tones and, as a domain of their own, other tones with another net."""
    root = tmp_path_factory.mktemp("joint")
    parts = []
    for name, width in (("low", 8), ("high", 16)):
        clips = tiny.write_clips(root / f"clips-{name}")
        fields = tiny.FIELDS | {"data.dir": clips, "net.width": width}
        fields |= {"net.blocks": 1, "inner.steps": 1, "eval.episodes": 20}
        # From prototypes tones are told apart too well to differ by task.
        fields |= {"hyper.head": "shared", "hyper.sharpness": 0.0}
        common = {"system", *multimodal._COMMON}  # said by `arguments`
        own = {k: v for k, v in fields.items() if k not in common}
        text = ",".join(f"{k}={v}" for k, v in own.items())
        parts.append((name, f"configs/asc.py:{text}"))
    (root / "both.py").write_text(CONFIG.format(parts=tuple(parts)))
    return root


def arguments(root, workdir, **more):
    fields = {
        "embed.dim": 16,
        "hyper.dim": 16,
        "hyper.layers": 1,
        "hyper.trunk": "mlp",  # compiles sooner
        "train.tasks": 2,
        "train.steps": 4,
        "train.val_every": 0.5,
        **{k.replace("__", "."): v for k, v in more.items()},
    }
    return [
        f"--config={root / 'both.py'}",
        f"--workdir={workdir}",
        *(f"--config.{k}={v}" for k, v in fields.items()),
    ]


@pytest.fixture(scope="module")
def run(root):
    train.main(arguments(root, root / "run"))
    return root / "run"


def hyper_of(workdir):
    _, found, _ = evaluate.restore(workdir, "latest")
    return joint.split(found)


@pytest.mark.slow
def test_each_domain_is_a_run_of_its_own_and_the_trunk_is_one(run, root):
    (low, own_low), (high, own_high) = (
        hyper_of(run / name) for name in ("low", "high")
    )
    jax.tree.map(np.testing.assert_array_equal, low, high)
    shapes = [jax.tree.map(np.shape, x["base"]) for x in (own_low, own_high)]
    assert shapes[0] != shapes[1]
    with pytest.raises(UserError, match="give the folder of one: .*/low, "):
        evaluate.restore(run)
    result = evaluate.evaluate(run / "high")
    assert result["benchmark"] == "multimodal-high"
    assert result["episodes"] == 20 and result["train"]["tasks"] == 8
    # Of each domain: a gradient may be no number where no loss is.
    line = logs.read(run / "metrics.jsonl")[-1]
    norms = [line[f"train/{name}/gradient_norm"] for name in ("low", "high")]
    assert np.isfinite(norms).all() and min(norms) > 0
    assert len(set(result["values"])) > 2
    model = adapt.load(run / "low")
    tones = sorted((root / "clips-low").iterdir())
    few = {d.name: sorted(d.iterdir())[:2] for d in tones[:3]}
    assert len(model.adapt(few).predict(sorted(tones[0].iterdir()))) == 5


@pytest.mark.slow
def test_stopping_in_between_changes_nothing(run, root, monkeypatch):
    """Half the training and its continuation end where the whole does."""
    again = root / "again"
    asked = signals.Stop.asked
    monkeypatch.setattr(
        signals.Stop, "asked", lambda self, at: 15 if at == 2 else None
    )
    with pytest.raises(SystemExit):
        train.main(arguments(root, again))
    assert checkpoints.Checkpoints(again).step("latest") == 2
    monkeypatch.setattr(signals.Stop, "asked", asked)
    train.main(arguments(root, again))
    for name in ("low", "high"):
        jax.tree.map(
            np.testing.assert_array_equal,
            evaluate.restore(again / name, "latest")[1],
            evaluate.restore(run / name, "latest")[1],
        )


@pytest.mark.slow
def test_a_domain_of_another_config_is_not_gone_on_with(run, root, monkeypatch):
    """The file that joint.parts names may have changed in between."""
    read = multimodal.configs_of

    def changed(config, named):
        found = read(config, named)
        found["high"].inner.size = 0.2
        return found

    monkeypatch.setattr(multimodal, "configs_of", changed)
    with pytest.raises(UserError, match="run/high was started .* inner.size"):
        train.main(arguments(root, run))


@pytest.mark.slow
def test_a_third_domain_starts_from_the_trunk(run, root):
    clips = tiny.write_clips(root / "third")
    fields = {
        "system": "htmaml",
        "train.steps": 1,
        "hyper.trunk": "mlp",
        "hyper.pretrained": run,
        "net.blocks": 1,
        "outer.frozen": "hyper/(hidden.*|read_.*)/.*",
    }
    train.main(tiny.arguments(clips, root / "late", **fields))
    trunk, _ = hyper_of(run / "low")
    kept, _ = hyper_of(root / "late")
    jax.tree.map(np.testing.assert_array_equal, trunk, kept)
    fields["hyper.pretrained"] = root / "late"
    with pytest.raises(UserError, match="run of one domain"):
        train.main(tiny.arguments(clips, root / "later", **fields))


def test_what_every_domain_takes_from_the_common_config(root):
    more = {"data__loader": "tfdata", "train__val_episodes": 7, "log__every": 3}
    fields, _ = cli.read_config(
        str(root / "both.py"),
        [(k.replace("__", "."), str(v)) for k, v in more.items()],
    )
    for own in multimodal.configs_of(fields).values():
        assert (own.data.loader, own.train.val_episodes) == ("tfdata", 7)


def test_what_is_set_to_its_default_is_said_too(root):
    """Else 200 validation episodes would be the one number nobody gets."""
    count = config.default().train.val_episodes
    path = f"{root / 'both.py'}:train.val_episodes={count}"
    fields, _ = cli.read_config(path, [])
    named = cli.named(path, [("system", "htmaml")])
    assert named == ["train.val_episodes"]
    for own in multimodal.configs_of(fields, named).values():
        assert own.train.val_episodes == count
    kept = multimodal.configs_of(fields)
    assert all(own.train.val_episodes != count for own in kept.values())
    with pytest.raises(UserError, match="takes inner.size from its own"):
        multimodal.configs_of(fields, ["inner.size"])


def test_what_is_common_is_said_once():
    def parts(more, *common):
        files = ("a", f"configs/asc.py:{more}"), ("b", "configs/hate.py")
        path = f"configs/multimodal.py:joint.parts={files}"
        return multimodal.configs_of(cli.read_config(path, common)[0])

    # What fits no run of its own, but this one.
    parts("hyper.heads=3", ("hyper.heads", "3"), ("hyper.dim", "96"))
    # How much of its trunk's vectors a generator takes is each one's own.
    found = parts("hyper.dropout=0.0,hyper.scale=0.03,train.tasks=2")
    assert found["a"].hyper.scale == 0.03 != found["b"].hyper.scale
    assert found["a"].hyper.dropout == 0.0 != found["b"].hyper.dropout
    for more, words in (
        ("train.tasks=4", "a asks for train.tasks=4, all together for "),
        ("system=tapt", "a asks for system=tapt, all together for system=htma"),
        ("seed=7", "a asks for seed=7, all together for run.seed=0"),
    ):
        refused(lambda more=more: parts(more), words)


def test_no_domain_trains_on_what_another_holds_out():
    """Through the trunk its classes would have been met."""

    def one(name, **splits):
        mine = ConfigDict({"data": {"name": name}})
        facts = {"splits": splits, "met": []}
        return domain.Domain(mine, facts, *[None] * 6)

    animals = one("auto", train=["dog"], validation=["cow"], test=["Great tit"])
    requests = one("texts", train=["card"], test=["pin"])
    both = {"animals": animals, "requests": requests}
    for _ in range(2):  # a resume tells them again
        domain.tell_of_each_other(both)
    assert animals.facts["met"] == [{"name": "texts", "train": ["card"]}]
    assert requests.facts["met"] == [{"name": "auto", "train": ["dog"]}]
    for held in ("cow", "great_tit"):
        others = one("clips", train=[held], test=["frog"])
        wanted = {"animals": animals, "others": others}
        said = "others would teach the trunk what animals holds out", held[:3]
        refused(lambda x=wanted: domain.tell_of_each_other(x), *said)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"joint__only": "low+middle"}, "joint.only names 'middle'"),
        ({"joint__only": "low"}, "two domains or more"),
        ({"system": "maml"}, "joint.shared=False"),
        ({"inner__steps": 7}, "takes inner.steps from its own config"),
        (
            {"joint__shared": False, "joint__weigh": "gradient"},
            "joint.weigh is of gradients in a trunk of all",
        ),
    ],
)
def test_what_cannot_be_trained_together(root, tmp_path, more, words):
    with pytest.raises(UserError, match=words):
        train.main(arguments(root, tmp_path / "run", **more))
    assert not (tmp_path / "run").exists()
