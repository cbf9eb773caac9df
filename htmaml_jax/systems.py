"""The table of presets, and how four slots become a Learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from htmaml_jax.embed.set_encoder import SetEncoder
from htmaml_jax.episode import Batch, Episode, present
from htmaml_jax.errors import UserError
from htmaml_jax.hyper import rules
from htmaml_jax.hyper.generator import Generator
from htmaml_jax.inner import sgd
from htmaml_jax.nets.conv4 import Classifier, ConvBody
from htmaml_jax.outer import losses
from htmaml_jax.outer.augment import Strengths, augment

# One row per system; each names what fills the slots. Everything that a row
# leaves out is the same for all systems of a comparison.
PRESETS: dict[str, dict[str, str]] = {
    "maml": {"embed": "none", "transform": "identity"},
    "htmaml": {"embed": "set", "transform": "generator"},
}


class Adapted(NamedTuple):
    """What adapting to a support set leaves behind: phi.

    Attributes:
      params: adapted parameters of the base network.
      stats: norm statistics of the support set, or {}.
      classes: [N] bool, the class slots that the support set filled.
    """

    params: Any
    stats: Any
    classes: jax.Array


class Learner(NamedTuple):
    """A few-shot system as four pure functions of `meta`.

    Attributes:
      init: (key, episode) -> meta, the pytree {base, hyper, embed, inner}.
      adapt: (meta, support) -> Adapted; never sees a query.
      predict: (adapted, inputs [Q, ...], mask [Q]) -> logits [Q, N]; each
        query on its own, unless the learner is transductive.
      meta_loss: (meta, episode, key) -> (loss, metrics).
      lines: (meta) -> which family transforms which parameter.
    """

    init: Callable[..., Any]
    adapt: Callable[..., Adapted]
    predict: Callable[..., jax.Array]
    meta_loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
    lines: Callable[[Any], list[rules.Line]]


def spread_head(base: Any, way: int) -> Any:
    """Gives every class slot the one column that all classes share.

    A column common to all classes cancels in the softmax: its meta-gradient
    is zero but for rounding, which Adam would blow up. So it is constant.
    """
    head = jax.tree.map(
        lambda x: jnp.repeat(jax.lax.stop_gradient(x), way, axis=-1),
        base["head"],
    )
    return {**base, "head": head}


def build(config: Any, way: int, transductive: bool = False) -> Learner:
    """Composes the Learner that a config describes.

    Args:
      config: see `htmaml_jax.config.default`.
      way: class slots N of the episodes; meta does not depend on it.
      transductive: let norm layers use the statistics of the query batch.
    """
    if config.system not in PRESETS:
        raise UserError(
            f"system {config.system!r} is unknown; choose from "
            f"{', '.join(PRESETS)}."
        )
    slots = PRESETS[config.system]
    generates = slots["transform"] == "generator"
    steps = config.inner.steps
    net = config.net

    body = ConvBody(net.width, net.blocks, net.down, net.norm, net.pool)

    def network(way):
        return Classifier(body, way)

    def lines_of(base):
        return rules.assign(base, [tuple(r) for r in config.hyper.rules])

    def encoder():
        if config.embed.body == "base":
            return SetEncoder(config.embed.dim)
        own = ConvBody(config.embed.width, net.blocks, "stem", "group", "mean")
        return SetEncoder(config.embed.dim, own)

    def features(base, support):
        """Features of the untransformed base network, where shared."""
        if config.embed.body != "base":
            return None
        out, _ = body.apply(
            {"params": base["body"]},
            support.inputs,
            support.mask,
            mutable=["batch_stats"],
        )
        return out

    def generator(base):
        hyper = config.hyper
        return Generator(
            tuple(lines_of(base)),
            hyper.dim,
            hyper.layers,
            hyper.heads,
            hyper.dropout,
            hyper.scale,
        )

    def init(key, episode):
        keys = jax.random.split(key, 3)
        support = episode.support
        # One head column: a class has no name before its support is seen.
        base = network(1).init(keys[0], support.inputs)["params"]
        meta = {
            "base": base,
            "embed": {},
            "hyper": {},
            "inner": sgd.init_steps(base, steps, config.inner.size),
        }
        if generates:
            seen = features(base, support)
            embed = encoder().init(keys[1], support, way, seen)
            meta["embed"] = embed["params"]
            task = encoder().apply(embed, support, way, seen)
            meta["hyper"] = generator(base).init(
                keys[2], task, spread_head(base, way)
            )["params"]
        return meta

    def transform(meta, support, key):
        base = spread_head(meta["base"], way)
        if not generates:
            return base
        task = encoder().apply(
            {"params": meta["embed"]},
            support,
            way,
            features(meta["base"], support),
        )
        return generator(meta["base"]).apply(
            {"params": meta["hyper"]},
            task,
            base,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )

    def support_pass(params, support, classes):
        logits, stats = network(way).apply(
            {"params": params},
            support.inputs,
            support.mask,
            mutable=["batch_stats"],
        )
        return losses.only_present(logits, classes), stats

    def polish(meta, start, support):
        classes = present(support, way)

        def loss(params):
            logits, _ = support_pass(params, support, classes)
            return losses.cross_entropy(logits, support)

        params = sgd.descend(loss, start, meta["inner"], steps)
        stats = {}
        if net.norm == "support" and not transductive:
            _, stats = support_pass(params, support, classes)
        return Adapted(params, stats, classes)

    def adapt(meta, support):
        return polish(meta, transform(meta, support, None), support)

    def predict(adapted, inputs, mask=None):
        variables = {"params": adapted.params, **adapted.stats}
        logits, _ = network(way).apply(
            variables,
            inputs,
            mask,
            stored=bool(adapted.stats),
            mutable=["batch_stats"],
        )
        return losses.only_present(logits, adapted.classes)

    def meta_loss(meta, episode, key):
        first, second = jax.random.split(key)
        episode = augment(
            episode, first, way, Strengths(**config.outer.augment)
        )
        start = transform(meta, episode.support, second)
        adapted = polish(meta, start, episode.support)
        query = episode.query
        logits = predict(adapted, query.inputs, query.mask)
        loss = losses.cross_entropy(logits, query)
        metrics = {
            "loss": loss,
            "accuracy": losses.accuracy(logits, query),
        }
        if generates:
            moved = movement(start, spread_head(meta["base"], way))
            metrics["moved"] = moved
            loss += config.hyper.move_penalty * moved
        return loss, metrics

    def lines(meta):
        return lines_of(meta["base"]) if generates else []

    return Learner(init, adapt, predict, meta_loss, lines)


def sizes(meta: Any) -> dict[str, int]:
    """Counts the numbers in base, hyper, embed and inner."""
    return {
        group: sum(x.size for x in jax.tree.leaves(tree))
        for group, tree in meta.items()
    }


def describe(learner: Learner, meta: Any) -> str:
    """Returns the table of transformed parameters for the start-up log."""
    lines = learner.lines(meta)
    return rules.table(lines) if lines else "no parameter is transformed"


def movement(start: Any, base: Any) -> jax.Array:
    """Returns how far a transform moved the weights.

    |start - base|^2 / |base|^2 over all parameters.
    """
    difference = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), start, base)
    size = jax.tree.map(lambda b: jnp.sum(b**2), base)
    total = sum(jax.tree.leaves(difference))
    return total / jax.lax.stop_gradient(sum(jax.tree.leaves(size)))


def evaluate_episode(
    learner: Learner, meta: Any, episode: Episode
) -> jax.Array:
    """Returns the query accuracy after adapting to the support set."""
    adapted = learner.adapt(meta, episode.support)
    query: Batch = episode.query
    logits = learner.predict(adapted, query.inputs, query.mask)
    return losses.accuracy(logits, query)
