"""Functions: few-shot regression over six kinds of functions of two inputs.

Task      10 noisy points of a function; 10 others are asked for (mean squared
          error; the noise alone gives 0.09)
Data      made on the fly: regression6-0-5 (inputs in [0, 5], as in the ARML
          paper), regression6-5-5 ([-5, 5], as in its code), modes2, modes3,
          modes5 (kinds of MMAML)
Command   python -m htmaml_jax.train --config configs/regression.py
Rivals    python -m htmaml_jax.train --config configs/regression.py:system=maml
Hardware  CPU, 1 of 2 cores, AMD EPYC
Minutes   5.2
Result    regression6-0-5, HT-MAML, three seeds, 4000 tasks: 0.157 ± 0.006;
          KML 0.163, MMAML 0.167, MAML 0.492. Others: results/README.md
"""

from htmaml_jax import config

FULL = {"train.steps": 70000}


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    c.data.update(name="regression6-0-5", shot=10, query=10, way=1, domains=6)
    c.eval.update(shot=10, query=10, way=1, episodes=4000)
    c.net.update(kind="mlp", output="numbers", width=40, blocks=2)
    c.inner.update(steps=5, size=0.01, clip=10.0)
    c.train.update(steps=20000, tasks=25, val_every=0.05, val_episodes=1000)
    c.run.chunk = 25
    c.log.every = 200
    c = config.parse(c, arg, tune, FULL)
    c.data.domains = config.KINDS.get(c.data.name, 1)
    return c


def tune(c):
    """Sets what validation tasks chose; all encoders are given the same."""
    if c.embed.kind in ("set", "blind"):
        c.embed.reconstruct = 1.0
    if c.system == "htmaml":
        c.hyper.update(trunk="mlp", dropout=0.0)
        c.hyper.rules = (
            ("body/.*kernel", "affine+lowrank(2)"),
            ("body/.*bias", "affine"),
            ("head/.*", "add"),
        )
