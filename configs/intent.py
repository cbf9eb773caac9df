"""Intents: five requests of one sentence each, and then which is which.

Task      5-way 1-shot, 5 queries per class, classes never seen in training
Data      BANKING77 (or clinc150, hwu64, liu), a fold of ProtAugment's, in
          $HTMAML_DATA or data.dir; vectors of a frozen sentence encoder, or
          :data.encoder=ngrams, a network of its own that needs no download
Command   python -m htmaml_jax.train --config configs/intent.py
Rivals    python -m htmaml_jax.train --config configs/intent.py:system=maml
          Others: configs/intent.py:data.name=clinc150,data.fold=2
          Across languages: configs/intent.py:data.name=xsid,data.encoder=ngrams
Hardware  CPU, 2 cores, AMD EPYC
Minutes   2, beside another run
Result    see results/README.md
"""

from htmaml_jax import config

FULL = {"train.steps": 10000, "train.tasks": 32}


def get_config(arg=None):
    """Returns the config; `arg` is the text after the colon."""
    c = config.default()
    c.data.update(name="banking77", encoder="all-MiniLM-L6-v2", size=384)
    c.net.update(kind="vector", width=128, blocks=1)
    # Few classes to learn from: what is left out by chance keeps a learner
    # from knowing them by heart.
    c.outer.augment.update(noise=1.0, drop=0.5)
    c.train.update(steps=600, tasks=16, val_every=0.1, val_episodes=600)
    c.eval.episodes = 600
    c = config.parse(c, arg, tune, FULL)
    if c.data.name == "xsid":
        parts = (c.data.train, c.data.validation, c.data.test)
        c.data.domains = sum(part.count("+") + 1 for part in parts)
    return c


def tune(c):
    """Sets what an encoder and a data set need, and validation tasks chose."""
    if c.data.encoder == "ngrams":
        c.data.size, c.net.kind = 160, "ngrams"
        c.pretrain.update(steps=400, batch=128, rate=1e-3, temperature=0.5)
        c.outer.augment.noise = 0.0
    if c.data.name == "xsid":
        c.data.update(train="en+de+id+tr+sr+da+nl+kk", validation="it+lt")
        c.data.test = "ar+zh+no+gsw+nap"
    if c.net.kind == "ngrams" and c.inner.over == ".*":
        # The table of n-grams is for all tasks alike.
        c.inner.over = "(?!body/(table|weights)).*"
    if c.hyper.head == "prototype" or c.system == "htmaml":
        c.outer.rate = 3e-4
    if c.system == "htmaml":
        c.hyper.head = "prototype"
        # Sure of one example: no step is learned.
        c.inner.update(rates="fixed", size=0.02)
        c.hyper.rules = (("body/.*norm.*", "affine"),)
