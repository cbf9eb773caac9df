"""Sounds, requests, hate speech and volumes: one way to read their tasks.

Task      each domain's own, see its config; their generators share the trunk
          that reads task tokens, all else is each domain's
Data      see configs/asc.py, intent.py, hate.py, seg3d.py (without bodies)
Command   python -m htmaml_jax.train --config configs/multimodal.py
Rivals    one trunk each: configs/multimodal.py:joint.shared=False
          some domains: configs/multimodal.py:joint.only=audio+intent
Hardware  CPU, 1 of 2 cores, AMD EPYC
Minutes   12, tests included
Result    seeds 0 to 2, beside a run of each domain alone: sounds 50.8 ± 0.7 %
          (50.8), intents 86.2 ± 0.8 % (86.1), Arabic hate speech 61.5 ± 0.5
          (61.4), volumes 28.6 ± 2.3 Dice (28.3); benchmarks/multimodal.sh
"""

from htmaml_jax import config

FULL = {"train.steps": 20000, "train.tasks": 16}
VOLUMES = "configs/seg3d.py:data.name=synthseg+acdc"
# Of HT-MAML, what learns volumes soonest: there are 600 tasks.
EARLY = (
    ",hyper.head=prototype,hyper.sharpness=10.0,hyper.dropout=0.1"
    ",hyper.scale=0.1,inner.rates=layer"
)


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    c.train.update(steps=300, tasks=2, val_every=0.1)
    return config.parse(c, arg, tune, FULL)


def tune(c):
    """Names the domains and what each has of its own."""
    c.joint.shared = c.joint.shared and c.hyper.kind == "generator"
    c.joint.parts = (
        ("audio", "configs/asc.py"),
        ("intent", "configs/intent.py"),
        ("hate", "configs/hate.py"),
        ("volumes", VOLUMES + (EARLY if c.system == "htmaml" else "")),
    )
