"""A few-shot system as pure functions of `meta`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from htmaml_jax import fillings
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.errors import UserError
from htmaml_jax.hyper import rules
from htmaml_jax.inner import sgd
from htmaml_jax.objective import Objective
from htmaml_jax.slots import Adapted


@dataclasses.dataclass(frozen=True, eq=False)
class Learner(Objective):
    """A few-shot system; made by `systems.build`.

    `meta` is the pytree {base, hyper, embed, inner} that the outer optimizer
    owns, and {joint} where it learns all training classes at once. It does not
    depend on `way`.
    """

    def init(self, key: jax.Array, episode: Episode) -> Any:
        """Makes meta; of the episode only shapes matter."""
        keys = jax.random.split(key, 4)
        support, inner = episode.support, self.config.inner
        # One head column: a slot has no name before its support is seen,
        # unless there are names.
        columns = 1 if self.alike else self.columns
        base = self.network(columns).init(keys[0], support.inputs)["params"]
        learned = {}
        if inner.steps:
            variables = self.variables(base)
            if not variables:
                paths = ", ".join(flatten_dict(base, sep="/"))
                raise UserError(
                    f"inner.over {inner.over!r} matches no parameter; there "
                    f"are {paths}."
                )
            learned = sgd.init(
                variables,
                inner.steps,
                inner.size,
                inner.rule,
                inner.rates,
                keys[3],
                self.config.embed.dim,
            )
        meta = {"base": base, "embed": {}, "hyper": {}, "inner": learned}
        if self.config.hyper.kind == "domain":
            count = self.config.data.domains
            meta["base"], meta["inner"] = jax.tree.map(
                lambda x: jnp.repeat(x[None], count, axis=0), (base, learned)
            )
        if self.generates:
            start = self.spread(base)
            if (encoder := fillings.encoder(self.config)) is not None:
                features = self.features(base, support)
                extra = self.extra(start, support)
                args = (support, self.way, features, extra)
                meta["embed"] = encoder.init(keys[1], *args)["params"]
            if self.config.embed.control == "domain":
                shape = (self.config.data.domains, self.config.embed.dim)
                meta["embed"]["domains"] = jax.random.normal(keys[3], shape)
            task = self.read(meta, start, support, 0)
            hyper = fillings.generator(self.config, base).init(
                keys[2], task, start
            )
            meta["hyper"] = hyper["params"]
        outer = self.config.outer
        joint = outer.objective == "joint" or outer.joint_until > 0
        if joint and self.problem.joint:
            width = self.features(base, support).shape[-1]
            meta["joint"] = {
                "kernel": jnp.zeros((width, self.known)),
                "bias": jnp.zeros(self.known),
            }
        return meta

    def adapt(
        self,
        meta: Any,
        support: Batch,
        domain: jax.Array | int = 0,
        read: Batch | None = None,
    ) -> Adapted:
        """Adapts to a support set; never sees a query.

        Args:
          meta: see `init`.
          support: the labelled examples.
          domain: id, for the systems that are told it.
          read: another task's support for the embedding, as a control.
        """
        strength = self.config.eval.strength
        start = self.start(meta, support, domain, read, strength=strength)
        return self.tune(self.polish(start, support)[0][-1], support)

    def score(
        self, meta: Any, episode: Episode, read: Batch | None = None
    ) -> jax.Array:
        """Returns the query metric after adapting to the support set."""
        adapted = self.adapt(meta, episode.support, episode.domain, read)
        query = episode.query
        outputs = self.predict(adapted, query.inputs, query.mask)
        return self.problem.score(outputs, query)

    def lines(self, meta: Any) -> list[rules.Line]:
        """Lists which family transforms which parameter."""
        if not self.generates:
            return []
        return fillings.lines(self.config, meta["base"])
