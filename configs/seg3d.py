"""Volumes: segmentation of a structure from one annotated example or a few.

Task      1-way 1-shot: one structure in one source, cubes of 32 x 32 x 32
Data      training: 24 brain structures, images drawn from SynthSeg's label
          maps in random contrast, left ventricle and myocardium of ACDC, and
          drawn bodies of no organ; validation: six other brain structures of
          other subjects, and bodies of other rooms; test: the hippocampus,
          and the right ventricle of other patients
Command   python -m htmaml_jax.train --config configs/seg3d.py
Rivals    python -m htmaml_jax.train --config configs/seg3d.py:system=maml
Test      python -m htmaml_jax.evaluate RUN --config.data.name=hippocampus
          --config.eval.shot=5; also acdc, spinalcord (eval.query=3), decathlon
Hardware  CPU, 1 of 2 cores, AMD EPYC
Minutes   23 (MAML 20), beside another run
Result    5-shot, 220 episodes, seeds 0 to 2: Dice of the hippocampus 47.2 ± 0.5
          (MAML 42.2 ± 0.5), of the right ventricle 39.9 ± 4.4 (38.1 ± 4.5)
"""

from htmaml_jax import config

FULL = {"net.down": "pool", "train.steps": 20000, "train.tasks": 8}


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    c.data.update(name="synthseg+acdc+shapes", side=32)
    c.data.update(way=1, shot=1, query=2)
    c.eval.update(way=1, shot=1, query=5, episodes=200, finetune_batch=2)
    c.net.update(kind="unet", output="voxels", width=8, blocks=3, down="stem")
    c.inner.update(steps=3, size=0.5)
    c.outer.rate = 3e-3
    c.pretrain.update(time_mask=0.0, row_mask=0.0, mix=0.0)
    c.outer.augment.update(flip=0.5, turn=0.5, invert=0.2, noise=0.1)
    c.train.update(steps=800, tasks=4, val_every=0.1, val_episodes=60)
    c = config.parse(c, arg, tune, FULL)
    c.data.domains = c.data.name.count("+") + 1
    return c


def tune(c):
    """Sets what a generator transforms; step sizes are generated, too."""
    if c.system == "htmaml":
        c.hyper.update(dropout=0.0, scale=0.03)
        if c.inner.steps and c.outer.gradient != "reptile":
            c.inner.rates = "task"
        c.hyper.rules = (
            ("body/norm_.*", "affine"),
            ("head/kernel", "rows"),
        )
