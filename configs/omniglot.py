"""Omniglot: 20-way classification of handwritten characters.

Task      20-way 1-shot (5-way: way=5)
Data      Omniglot in $HTMAML_DATA or data.dir, 28 x 28, quarter turns as
          classes of their own, the split of Vinyals et al. (2016)
Command   python -m htmaml_jax.train --config configs/omniglot.py
Rivals    python -m htmaml_jax.train --config configs/omniglot.py:system=maml
Hardware  CPU, 1 of 2 cores, AMD EPYC
Minutes   10 (maml: 8)
Result    20-way, 600 tasks, three seeds: HT-MAML 90.0 ± 0.3, MAML 88.9 ± 0.4;
          the same networks 5-way: 96.7 ± 0.4, 96.0 ± 0.4
"""

from htmaml_jax import config

FULL = {
    "net.down": "pool",
    "train.steps": 60000,
    "train.tasks": 16,
}


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    c.data.update(name="omniglot", way=20, rows=28, columns=28)
    c.eval.way = 20
    # Four strided layers of 64 channels, as in MAML's Omniglot network.
    c.net.update(down="stride", width=64)
    c.outer.rate = 3e-3
    c.train.update(steps=1000, tasks=4, val_every=0.1, val_episodes=100)
    return config.parse(c, arg, tune, FULL)


def tune(c):
    """Sets what validation tasks chose."""
    if c.system == "htmaml":
        c.hyper.update(head="prototype", sharpness=30.0)
