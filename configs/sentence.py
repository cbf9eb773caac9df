"""Intents, with a pre-trained sentence encoder in the base network.

Task      5-way 1-shot, 5 queries per class, classes never seen in training
Data      as in configs/intent.py, but an encoder's tokens, not its vectors;
          what is behind the first 32 of a text is cut
Command   python -m htmaml_jax.train --config configs/sentence.py
Rivals    python -m htmaml_jax.train --config configs/sentence.py:system=maml
          The encoder learns, too: configs/sentence.py:outer.frozen=
Hardware  CPU, 2 cores, AMD EPYC
Minutes   9 of one core, two validations and 40 test tasks included
Result    see results/README.md
"""

from htmaml_jax import config

FULL = {"train.steps": 5000, "train.tasks": 16, "train.val_every": 0.05}


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    c.data.update(name="banking77", encoder="all-MiniLM-L6-v2")
    c.data.update(tokens=True, size=32)
    c.net.update(kind="sentence", width=128, blocks=1)
    # The encoder's own weights stay; each task adds to them.
    c.outer.frozen = "base/body/encoder/.*"
    c.train.update(steps=100, tasks=4, val_every=0.5, val_episodes=120)
    c.eval.episodes = 200
    return config.parse(c, arg, tune, FULL)


def tune(c):
    """Sets what systems differ in; no validation task was asked."""
    if c.inner.over == ".*":
        # Steps on the encoder would cost its second derivatives.
        c.inner.over = "(?!body/encoder).*"
    if c.system == "htmaml":
        c.hyper.head = "prototype"
        # Sure of one example: no step is learned; see configs/intent.py.
        c.inner.update(rates="fixed", size=0.02)
        c.hyper.rules = (
            ("body/encoder/layer[45]_(query|value)/kernel", "lowrank(2)"),
            ("body/encoder/layer[45]_(into|outof)/kernel", "lowrank(2)"),
            ("body/vector/dense.*kernel", "lowrank(4)"),
            ("body/vector/norm.*", "affine"),
            ("head/kernel", "rows"),
        )
