"""The table of presets, and how four slots become a Learner."""

from __future__ import annotations

import dataclasses
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
from htmaml_jax.outer import gradients, losses
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


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """A few-shot system as pure functions of `meta`; made by `build`.

    `meta` is the pytree {base, hyper, embed, inner} that the outer optimizer
    owns. It does not depend on `way`.

    Attributes:
      config: see `htmaml_jax.config.default`.
      way: class slots N of the episodes.
      transductive: let norm layers use the statistics of the query batch.
    """

    config: Any
    way: int
    transductive: bool = False

    def init(self, key: jax.Array, episode: Episode) -> Any:
        """Makes meta; of the episode only shapes matter."""
        keys = jax.random.split(key, 3)
        support, inner = episode.support, self.config.inner
        # One head column: a class has no name before its support is seen.
        network = Classifier(self._body, 1)
        base = network.init(keys[0], support.inputs)["params"]
        meta = {
            "base": base,
            "embed": {},
            "hyper": {},
            "inner": sgd.init_steps(base, inner.steps, inner.size),
        }
        if self._generates:
            features = self._features(base, support)
            args = (support, self.way, features)
            embed = self._encoder.init(keys[1], *args)
            task = self._encoder.apply(embed, *args)
            start = spread_head(base, self.way)
            hyper = self._generator(base).init(keys[2], task, start)
            meta["embed"], meta["hyper"] = embed["params"], hyper["params"]
        return meta

    def adapt(self, meta: Any, support: Batch) -> Adapted:
        """Adapts to a support set; never sees a query."""
        return self._polish(meta, self._transform(meta, support), support)

    def predict(
        self,
        adapted: Adapted,
        inputs: jax.Array,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Maps queries [Q, ...] to logits [Q, N].

        Each query is on its own, unless the learner is transductive.
        """
        logits, _ = self._network.apply(
            {"params": adapted.params, **adapted.stats},
            inputs,
            mask,
            stored=bool(adapted.stats),
            mutable=["batch_stats"],
        )
        return losses.only_present(logits, adapted.classes)

    def meta_loss(
        self, meta: Any, episode: Episode, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns what to minimise, and metrics of the adapted learner."""
        first, second = jax.random.split(key)
        strengths = Strengths(**self.config.outer.augment)
        episode = augment(episode, first, self.way, strengths)
        start = self._transform(meta, episode.support, second)
        adapted = self._polish(meta, start, episode.support)
        query = episode.query
        logits = self.predict(adapted, query.inputs, query.mask)
        loss = losses.cross_entropy(logits, query)
        metrics = {"loss": loss, "accuracy": losses.accuracy(logits, query)}
        objective = loss
        if self.config.outer.gradient == "reptile":
            objective = gradients.reptile(start, adapted.params)
        if self._generates:
            there = present(episode.support, self.way)
            moved = movement(start, spread_head(meta["base"], self.way), there)
            metrics["moved"] = moved
            objective += self.config.hyper.move_penalty * moved
        return objective, metrics

    def lines(self, meta: Any) -> list[rules.Line]:
        """Lists which family transforms which parameter."""
        return self._lines(meta["base"]) if self._generates else []

    @property
    def _generates(self):
        return PRESETS[self.config.system]["transform"] == "generator"

    @property
    def _body(self):
        net = self.config.net
        return ConvBody(
            net.width,
            net.blocks,
            net.down,
            net.norm,
            net.pool,
            self.config.run.lowering,
            None if net.precision == "float32" else jnp.dtype(net.precision),
        )

    @property
    def _network(self):
        return Classifier(self._body, self.way)

    @property
    def _encoder(self):
        embed, blocks = self.config.embed, self.config.net.blocks
        if embed.body == "base":
            return SetEncoder(embed.dim)
        own = ConvBody(embed.width, blocks, "stem", "group", "mean")
        return SetEncoder(embed.dim, own)

    def _generator(self, base):
        hyper = self.config.hyper
        return Generator(
            tuple(self._lines(base)),
            hyper.dim,
            hyper.layers,
            hyper.heads,
            hyper.dropout,
            hyper.scale,
        )

    def _lines(self, base):
        return rules.assign(base, [tuple(r) for r in self.config.hyper.rules])

    def _features(self, base, support):
        """Features of the shared base network, where the encoder has none."""
        if self.config.embed.body != "base":
            return None
        features, _ = self._body.apply(
            {"params": base["body"]},
            support.inputs,
            support.mask,
            mutable=["batch_stats"],
        )
        return features.astype(support.inputs.dtype)

    def _transform(self, meta, support, key=None):
        """theta to theta_task; with a key dropout is on."""
        start = spread_head(meta["base"], self.way)
        if not self._generates:
            return start
        task = self._encoder.apply(
            {"params": meta["embed"]},
            support,
            self.way,
            self._features(meta["base"], support),
        )
        return self._generator(meta["base"]).apply(
            {"params": meta["hyper"]},
            task,
            start,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )

    def _polish(self, meta, start, support):
        """theta_task to phi_task."""
        classes = present(support, self.way)

        def support_pass(params, support, classes):
            logits, stats = self._network.apply(
                {"params": params},
                support.inputs,
                support.mask,
                mutable=["batch_stats"],
            )
            return losses.only_present(logits, classes), stats

        def loss(params, data):
            logits, _ = support_pass(params, *data)
            return losses.cross_entropy(logits, data[0])

        data = (support, classes)
        gradient = gradients.inner_gradient(loss, self.config.outer.gradient)
        params = sgd.descend(gradient, start, meta["inner"], data)
        stats = {}
        if self.config.net.norm == "support" and not self.transductive:
            _, stats = support_pass(params, *data)
        return Adapted(params, stats, classes)


def build(config: Any, way: int, transductive: bool = False) -> Learner:
    """Composes the Learner that a config describes."""
    if config.system not in PRESETS:
        raise UserError(
            f"system {config.system!r} is unknown; choose from "
            f"{', '.join(PRESETS)}."
        )
    return Learner(config, way, transductive)


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


def movement(start: Any, base: Any, classes: jax.Array) -> jax.Array:
    """Returns how far a transform moved the weights.

    |start - base|^2 / |base|^2 over all parameters, of the head only the
    columns of `classes` [N] that are there.
    """
    head = jax.tree.map(
        lambda a, b: jnp.where(classes, a, b), start["head"], base["head"]
    )
    start = {**start, "head": head}
    difference = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), start, base)
    size = jax.tree.map(lambda b: jnp.sum(b**2), base)
    total = sum(jax.tree.leaves(difference))
    return total / jax.lax.stop_gradient(sum(jax.tree.leaves(size)))


def evaluate_episode(
    learner: Learner, meta: Any, episode: Episode
) -> jax.Array:
    """Returns the query accuracy after adapting to the support set."""
    adapted = learner.adapt(meta, episode.support)
    query = episode.query
    logits = learner.predict(adapted, query.inputs, query.mask)
    return losses.accuracy(logits, query)
