"""The first two slots at work: support set to transformed parameters."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from htmaml_jax import fillings
from htmaml_jax.embed.task import TaskEmbedding, gradient_means, statistics
from htmaml_jax.episode import present
from htmaml_jax.hyper import heads
from htmaml_jax.inner import adapters, sgd
from htmaml_jax.nets.bert import Bert
from htmaml_jax.outer import losses, mixing


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


class Start(NamedTuple):
    """Where the inner loop starts.

    Attributes:
      shared: theta with a head for every class slot, before any transform.
      theta: theta_task, what the network would be without an inner loop.
      variables: path -> array, what steps.
      rest: what makes network parameters from variables: {"fixed": those
        that do not step, "hyper", "task": of a transform on top}.
      learned: what the update rule has learned.
      fade: factor on step sizes.
      loss: reconstruction loss of the encoder.
    """

    shared: Any
    theta: Any
    variables: dict[str, jax.Array]
    rest: dict[str, Any]
    learned: dict[str, Any]
    fade: jax.Array | float
    loss: jax.Array | float


@dataclasses.dataclass(frozen=True, eq=False)
class Slots:
    """What a config fills the slots with; see `learner.Learner`.

    Attributes:
      config: see `htmaml_jax.config.default`.
      way: slots N of the episodes, of classes or of structures.
      transductive: let norm layers use the statistics of the query batch.
      known: training classes, which joint training tells apart.
      bert: the encoder that the base network begins with, if it is one of
        sentences; a module, whose weights are in meta as all others.
    """

    config: Any
    way: int
    transductive: bool = False
    known: int = 0
    bert: Bert | None = None

    @property
    def problem(self):
        """What outputs mean and how they are judged."""
        return losses.PROBLEMS[self.config.net.output]

    @property
    def alike(self):
        """Whether outputs are slots that share one head column."""
        return self.problem.grouped and not self.problem.named

    @property
    def generates(self):
        """Whether a generator transforms parameters."""
        return self.config.hyper.kind == "generator"

    @property
    def columns(self):
        """Outputs of the network."""
        return self.way if self.problem.grouped else 1

    @property
    def shuffled(self):
        """Whether embeddings are those of another task, as a control."""
        return self.config.embed.control == "shuffled"

    def network(self, columns=None):
        """Returns the base network."""
        return fillings.network(self.config, columns or self.columns, self.bert)

    def start(
        self,
        meta,
        support,
        domain,
        read=None,
        key=None,
        progress=1.0,
        shuffle=None,
        strength=1.0,
    ):
        """Fills embed and transform.

        With a key dropout is on, but not under through="transform", where
        every inner step would meet the same one. Prototypes are of channels
        shuffled as in the inner loop. `strength` of the change is used.
        """
        base, learned = meta["base"], meta["inner"]
        hyper, through = self.config.hyper, self.config.inner.through
        if hyper.kind == "domain":
            base, learned = jax.tree.map(lambda x: x[domain], (base, learned))
        if self.config.inner.rates == "fixed":
            learned = {
                k: jax.lax.stop_gradient(x) if k in ("alpha", "decay") else x
                for k, x in learned.items()
            }
        alone = self.config.outer.objective == "joint"
        if alone and "joint" in meta and not self.problem.classes:
            base = heads.common(base, meta["joint"])
        shared = self.spread(base)
        made = fillings.makes_head(self.config)

        def with_prototypes(params):
            prototypes = self.prototypes(params, support, shuffle)
            if self.problem.classes:
                return prototypes
            # The learned column knows what all structures have in common.
            return jax.tree.map(jnp.add, shared["head"], prototypes)

        if made and not self.generates:
            shared["head"] = with_prototypes(base)
        theta, rest, loss, fade = shared, {}, 0.0, 1.0
        if self.generates:
            task = self.read(meta, shared, read or support, domain)
            loss = task.loss
            if "task" in learned:
                learned = sgd.fitted(learned, task.summary, strength)
            dropped = None if through == "transform" else key

            def transform(params):
                new = self.transform(meta["hyper"], task, params, dropped)
                if strength == 1:
                    return new
                return heads.between(params, new, strength)

            theta = transform(shared)
            if made:
                # Queries are judged by features of the transformed body.
                shared["head"] = with_prototypes(theta)
                theta = {**theta, "head": transform(shared)["head"]}
            if hyper.blend:
                # MAML first, then the generator bit by bit (HyperMAML).
                span = max(hyper.blend - hyper.warmup, 1e-6)
                part = jnp.clip((progress - hyper.warmup) / span, 0, 1)
                theta = heads.between(shared, theta, part)
                if self.config.inner.fade:
                    fade = 1 - part
            if through == "transform":
                rest = {"hyper": meta["hyper"], "task": task._replace(loss=0.0)}
        stepping = shared if through == "transform" else theta
        variables = self.variables(stepping)
        flat = flatten_dict(stepping, sep="/")
        rest["fixed"] = {k: x for k, x in flat.items() if k not in variables}
        return Start(shared, theta, variables, rest, learned, fade, loss)

    def spread(self, base):
        """Gives a base network a head for every slot."""
        if not self.alike:
            return dict(base)
        return heads.spread(base, self.columns, not self.problem.classes)

    def variables(self, params):
        """Returns what the inner loop steps on."""
        inner = self.config.inner
        found = {
            path: x
            for path, x in flatten_dict(params, sep="/").items()
            if re.fullmatch(inner.over, path)
        }
        if inner.through == "adapters":
            found |= adapters.init(params)
        return found

    def realise(self, variables, rest):
        """Makes network parameters from variables."""
        fitted = {
            k: x for k, x in variables.items() if k.startswith(adapters.PREFIX)
        }
        mine = {k: x for k, x in variables.items() if k not in fitted}
        params = unflatten_dict({**rest["fixed"], **mine}, sep="/")
        if fitted:
            params = adapters.apply(params, fitted)
        if "task" in rest:
            params = self.transform(rest["hyper"], rest["task"], params)
        return params

    def transform(self, hyper, task, params, key=None):
        """Applies the generator; with a key dropout is on."""
        return fillings.generator(self.config, params).apply(
            {"params": hyper},
            task,
            params,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )

    def read(self, meta, start, support, domain):
        """Support set to task embedding."""
        embed = self.config.embed
        extra = self.extra(start, support)
        if (encoder := fillings.encoder(self.config)) is None:
            tokens = jnp.zeros((self.columns, 1))
            valid = jnp.ones(self.columns, bool)
            task = TaskEmbedding(tokens, extra, valid)
        else:
            mine = {k: x for k, x in meta["embed"].items() if k != "domains"}
            features = self.features(meta["base"], support)
            task = encoder.apply(
                {"params": mine}, support, self.way, features, extra
            )
        if embed.control == "constant":
            nothing = jax.tree.map(jnp.zeros_like, (task.tokens, task.summary))
            task = task._replace(tokens=nothing[0], summary=nothing[1])
        if embed.control == "domain":
            known = meta["embed"]["domains"][domain]
            summary = jnp.concatenate([task.summary, known])
            task = task._replace(summary=summary)
        return task

    def features(self, base, support, *more):
        """Features [S, F] of the shared base network."""
        features, _ = fillings.body(self.config, self.bert).apply(
            {"params": base["body"]},
            support.inputs,
            support.mask,
            *more,
            mutable=["batch_stats"],
        )
        exact = jnp.promote_types(support.inputs.dtype, jnp.float32)
        return features.astype(exact)

    def shuffled_by(self, shuffle, support):
        """Returns what bodies take behind their mask: (stored, change)."""
        if shuffle is None:
            return ()
        return False, mixing.shuffling(shuffle, [support], self.way)

    def prototypes(self, base, support, shuffle=None):
        """Makes a head from class means, or from both sides of a mask."""
        more = self.shuffled_by(shuffle, support)
        features = self.features(base, support, *more)
        sharpness = self.config.hyper.sharpness
        make = heads.prototypes if self.problem.classes else heads.contrast
        return make(features, support, self.way, sharpness)

    def extra(self, start, support):
        """Numbers about weights and support gradients, where asked for.

        Of a head that is alike for all classes no gradient reaches the body:
        with classes it is taken at the head that prototypes make, scaled to
        a mean squared norm of 1.
        """
        embed = self.config.embed
        wanted = embed.kind in ("gradient", "statistics") or embed.statistics
        if not wanted:
            return None
        data = (support, self.there(support))
        if self.problem.classes:
            head = self.prototypes(start, support)
            # On a scale where the softmax of one shot is not saturated.
            size = jnp.maximum(jnp.mean(-head["bias"]), 1e-6)
            head = jax.tree.map(lambda x: x / size, head)
            start = {**start, "head": head}
        gradient = jax.grad(lambda p: self.support_pass(p, *data)[0])(start)
        start, gradient = jax.lax.stop_gradient((start, gradient))
        if embed.kind == "gradient":
            return gradient_means(gradient)
        return statistics(start, gradient)

    def there(self, support):
        """Returns [N]: which class slots an answer may name."""
        if not (self.alike and self.problem.classes):
            return jnp.ones(self.columns, bool)
        return present(support, self.way)
