"""The table of presets: which fillings of the four slots make which system.

A row holds what differs from MAML; everything that it leaves out is the same
for all systems of a comparison: network, episodes, optimizer, and step sizes
learned per layer and step. `config.choose` writes a row into a config.
Nothing outside this table knows the names.
"""

from __future__ import annotations

from typing import Any

# MAML (Finn et al., 2017), and what every row starts from.
NEUTRAL: dict[str, Any] = {
    "embed.kind": "none",
    "embed.clusters": 0,
    "embed.reconstruct": 0.0,
    "hyper.kind": "identity",
    "hyper.trunk": "transformer",
    "hyper.head": "shared",
    "hyper.warmup": 0.0,
    "hyper.blend": 0.0,
    "inner.rule": "sgd",
    "inner.rates": "layer",
    "inner.over": ".*",
    "inner.through": "weights",
    "inner.fade": False,
    "outer.loss": "last",
    "outer.second_from": 0.0,
    "outer.objective": "meta",
    "outer.domain_query": "own",
}
_HYPER = {"embed.kind": "set", "hyper.kind": "generator"}
# Without the transformer: one MLP reads the task's summary.
_MLP = {**_HYPER, "hyper.trunk": "mlp"}
_GENERATED_HEAD = (("head/.*", "rows"),)
# FiLM: on norm layers where there are some, else on the layers themselves.
_FILM = (("body/(.*/)?norm.*", "affine"), ("body/dense.*", "affine"))

PRESETS: dict[str, dict[str, Any]] = {
    "maml": {},
    # First order (Finn et al., 2017, §5.2); Nichol et al., 2018. What a step
    # size does to the gradients of later steps is of second order: learned
    # without it they went astray (an error of 7.7 on functions, not 4.2).
    "fomaml": {"outer.gradient": "first", "inner.rates": "fixed"},
    "reptile": {"outer.gradient": "reptile"},
    # Raghu et al., 2020; its opposite, Oh et al., 2021. Slots are alike until
    # the head says otherwise, and a head that is alike for all and stays so
    # teaches a body nothing: BOIL's is made from prototypes.
    "anil": {"inner.over": "head/.*"},
    "boil": {"inner.over": "body/.*", "hyper.head": "prototype"},
    # Li et al., 2017; Park and Oliva, 2019.
    "meta-sgd": {"inner.rates": "weight"},
    "meta-curvature": {"inner.rule": "curvature"},
    # Antoniou et al., 2019: multi-step loss, derivative-order annealing.
    "mamlpp": {"outer.loss": "every", "outer.second_from": 0.1},
    # Between languages, with classes that have names. Nooralahzadeh et al.,
    # 2020: one step in one language, judged in another. Awal et al., 2023:
    # judged in both; five steps of first order.
    "xmaml": {"outer.domain_query": "other", "inner.steps": 1},
    "hatemaml": {
        "outer.domain_query": "both",
        "outer.gradient": "first",
        "inner.rates": "fixed",
        "inner.steps": 5,
    },
    # Snell et al., 2017; Triantafillou et al., 2020, §3.
    "protonet": {"hyper.head": "prototype", "inner.steps": 0},
    "proto-maml": {"hyper.head": "prototype"},
    # Baik et al., 2020 (L2F: one gate per tensor from its mean gradient;
    # ALFA: step size and decay generated at every step).
    "l2f": {
        **_MLP,
        "embed.kind": "gradient",
        "hyper.rules": ((".*", "scalar"),),
    },
    "alfa": {"inner.rule": "alfa"},
    # Vuorio et al., 2019: FiLM from an encoder that is blind to labels where
    # these are classes; steps are taken on theta under the modulation.
    "mmaml": {
        **_MLP,
        "embed.kind": "blind",
        "hyper.rules": _FILM,
        "inner.through": "transform",
    },
    # Abdollahzadeh et al., 2021: rank-1 multiplicative kernels.
    "kml": {
        **_MLP,
        "embed.kind": "blind",
        "hyper.rules": (("body/.*kernel", "rank1"), ("body/.*bias", "add")),
        "inner.through": "transform",
    },
    # Yao et al., 2019: tree of clusters, one gate per weight, autoencoder.
    "hsml": {
        **_MLP,
        "embed.clusters": 4,
        "embed.reconstruct": 0.01,
        "hyper.rules": (("body/.*", "sigmoid"),),
    },
    # Our reconstruction: the formula of Moon et al., 2024 is not public.
    "tapt": {
        **_MLP,
        "embed.kind": "statistics",
        "hyper.rules": (("body/.*", "film"),),
    },
    # Requeima et al., 2019: a generator and no inner loop.
    "cnaps": {
        **_MLP,
        "hyper.rules": (*_FILM, *_GENERATED_HEAD),
        "inner.steps": 0,
    },
    # Przewiezlikowski et al., 2022: a head generated after a MAML warm-up.
    "hypermaml": {
        **_MLP,
        "hyper.rules": _GENERATED_HEAD,
        "hyper.warmup": 0.1,
        "hyper.blend": 0.4,
        "inner.fade": True,
    },
    # Li et al., 2022: adapters fitted on the support set from zero.
    "tsa": {"inner.over": "head/.*", "inner.through": "adapters"},
    # One network for all tasks, fine-tuned on the support set afterwards.
    "finetune": {"outer.objective": "joint"},
    # The same network, and the nearest class mean of its features.
    "prototype": {
        "outer.objective": "joint",
        "hyper.head": "prototype",
        "inner.steps": 0,
    },
    # One MAML per domain; the domain is known.
    "multi-maml": {"hyper.kind": "domain"},
    "htmaml": _HYPER,
}
