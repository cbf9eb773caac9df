"""Animal sounds: 5-way few-shot classification of clips.

Task      5-way 1-shot, support and query from different recordings
Data      ESC-50 (log-mel pack or waveforms); without it built-in synthetic
          calls. Splits: animals (default), metaaudio (35/5/10 classes)
Command   python -m htmaml_jax.train --config configs/asc.py
Rivals    python -m htmaml_jax.train --config configs/asc.py:system=maml
Hardware
Minutes
Result
"""

from htmaml_jax import config


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    c.net.down = "stride"
    c.outer.augment.update(
        roll=0.5,
        time_mask=0.2,
        row_mask=0.2,
        gain=0.1,
        reverse=0.5,
        shift=0.1,
    )
    c.train.update(steps=1500, tasks=8)
    c.eval.episodes = 1000
    return config.parse(c, arg)
