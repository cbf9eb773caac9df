"""Animal sounds: 5-way few-shot classification of clips.

Task      5-way 1-shot (in training one to three shots), support and query
          from different recordings
Data      ESC-50 (log-mel pack or waveforms); without it built-in synthetic
          calls. Splits: animals (default), metaaudio, development,
          esc10; see data/esc.py
Command   python -m htmaml_jax.train --config configs/asc.py
Rivals    python -m htmaml_jax.train --config configs/asc.py:system=maml
Hardware  CPU, 1 of 2 cores, AMD EPYC
Minutes   20
Result    2000 test tasks, benchmarks/sounds.sh, three seeds: HT-MAML 53.7 ±
          0.5 %, 5-shot 71.6 ± 0.4; ProtoNet 53.2 and 70.0; seed 0: MAML 52.0
          and 69.9, nearest class means after joint training 54.0 and 70.7
"""

from htmaml_jax import config

FULL = {
    "net.width": 64,
    "data.columns": 80,
    "train.steps": 20000,
    "train.tasks": 16,
}


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    # With one example a class the inner steps learn to be too long for more.
    c.data.update(rows=64, channels=2, shot=3, min_shot=1)
    c.net.update(down="stem", grow=2)
    c.outer.augment.update(
        roll=0.5,
        time_mask=0.2,
        row_mask=0.2,
        gain=0.1,
        blend=0.4,
    )
    c.train.update(steps=600, tasks=8, val_every=0.1, val_episodes=300)
    return config.parse(c, arg, tune, FULL)


def tune(c):
    """Sets what validation tasks chose."""
    # First the network learns to tell all training classes apart. What it
    # says of them is large then, so that steps and distances must be small.
    c.inner.size = 0.03
    if c.outer.objective == "meta" and c.outer.gradient != "reptile":
        c.outer.joint_until = 0.66
    if c.system == "htmaml":
        c.hyper.head, c.inner.size, c.outer.mix = "prototype", 0.01, 0.5
        c.hyper.rules = (("body/norm.*", "affine"),)
    if c.hyper.head == "prototype":
        c.hyper.sharpness = 3.0
