"""The third slot at work: polishing by gradient steps, and answering."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from htmaml_jax.inner import sgd
from htmaml_jax.outer import gradients, losses, volumes
from htmaml_jax.slots import Adapted, Slots


@dataclasses.dataclass(frozen=True, eq=False)
class Descent(Slots):
    """Adds the inner loop to `Slots`, and what its result answers."""

    def support_pass(self, params, support, classes, shuffle=None, judge=None):
        """Returns (support loss, norm statistics).

        The loss is that of inner steps, or `judge`.
        """
        more = self.shuffled_by(shuffle, support)
        outputs, stats = self.network().apply(
            {"params": params},
            support.inputs,
            support.mask,
            *more,
            mutable=["batch_stats"],
        )
        if self.problem.classes:
            outputs = losses.only_present(outputs, classes)
        return (judge or self.problem.inner)(outputs, support), stats

    def polish(
        self,
        start,
        support,
        progress=1.0,
        training=False,
        shuffle=None,
        every=False,
    ):
        """theta_task to phi_task, on shuffled channels if training wants.

        Returns:
          Lists of Adapted and of their weights in the outer loss; of one
          unless that looks at every step, or `every` one is asked for. The
          last one is the result.
        """
        inner, outer = self.config.inner, self.config.outer
        classes = self.there(support)

        def loss(variables, data):
            rest, *more = data
            return self.support_pass(self.realise(variables, rest), *more)[0]

        joint = training and outer.objective == "joint"
        every = every or (training and outer.loss == "every")
        every = every and inner.steps > 1
        passed = [start.variables]
        if inner.steps and not joint:
            gradient = gradients.inner_gradient(loss, outer.gradient)
            if training and outer.second_from:
                gradient = gradients.annealed(
                    gradient, progress >= outer.second_from
                )
            ended = sgd.descend(
                gradient,
                start.variables,
                start.learned,
                (start.rest, support, classes, shuffle),
                inner.clip,
                start.fade,
                every,
                inner.unroll,
            )
            passed = [ended]
            if every:
                count = range(inner.steps)
                passed = [
                    jax.tree.map(lambda x, k=k: x[k], ended) for k in count
                ]
        found = []
        for variables in passed:
            params, stats = self.realise(variables, start.rest), {}
            if self.config.net.norm == "support" and not self.transductive:
                _, stats = self.support_pass(params, support, classes, shuffle)
            found.append(Adapted(params, stats, classes))
        return found, losses.step_weights(len(found), progress)

    def tune(self, adapted: Adapted, support) -> Adapted:
        """Takes `eval.finetune` steps of Adam after the inner loop.

        Not learned through: what is for use alone. Each step sees
        `eval.finetune_batch` examples of the support set, in turn, or all; of
        volumes, bent anew each time by `eval.finetune_bend`.
        """
        wanted, classes = self.config.eval, adapted.classes
        if not wanted.finetune:
            return adapted
        flat = flatten_dict(adapted.params, sep="/")
        moving = {
            k: x
            for k, x in flat.items()
            if re.fullmatch(self.config.inner.over, k)
        }
        count = len(support.targets)
        batch = min(wanted.finetune_batch or count, count)
        turns = jnp.arange(count)
        if self.problem.classes and count % self.way == 0:
            # A class's examples stand together; some of each are seen.
            turns = turns.reshape(self.way, -1).T.reshape(-1)
        optimizer = optax.adam(wanted.finetune_rate)

        def loss(moving, part):
            params = unflatten_dict({**flat, **moving}, sep="/")
            judge = self.problem.loss
            return self.support_pass(params, part, classes, None, judge)[0]

        def step(carry, at):
            moving, state = carry
            rows = turns[(at * batch + jnp.arange(batch)) % count]
            part = jax.tree.map(lambda x: x[rows], support)
            if wanted.finetune_bend:
                drawn = jax.random.fold_in(jax.random.key(0), at)
                part = volumes.vary(part, drawn, self.way, wanted.finetune_bend)
            grads = jax.grad(loss)(moving, part)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(moving, updates), state), None

        start = moving, optimizer.init(moving)
        (moving, _), _ = jax.lax.scan(step, start, jnp.arange(wanted.finetune))
        params, stats = unflatten_dict({**flat, **moving}, sep="/"), {}
        if adapted.stats:
            _, stats = self.support_pass(params, support, classes)
        return Adapted(params, stats, classes)

    def predict(
        self,
        adapted: Adapted,
        inputs: jax.Array,
        mask: jax.Array | None = None,
        *more: Any,
    ) -> jax.Array:
        """Maps queries [Q, ...] to logits [Q, N], or numbers [Q, D].

        Of volumes it maps [Q, D, H, W, C] to logits [Q, D, H, W, N]. Each
        query is on its own, unless the learner is transductive. What comes
        behind the mask is for the network's body.
        """
        return self.answers(adapted, inputs, mask, *more)[0]

    def answers(self, adapted, inputs, mask=None, *more):
        """Returns what `predict` does, and {"level1": (features,), ...}.

        The latter of a U-Net with net.deep, else empty; see `UNetBody`.
        """
        outputs, seen = self.network().apply(
            {"params": adapted.params, **adapted.stats},
            inputs,
            mask,
            bool(adapted.stats),
            *more,
            mutable=["batch_stats", "levels"],
        )
        if self.problem.classes:
            outputs = losses.only_present(outputs, adapted.classes)
        return outputs, seen.get("levels", {}).get("body", {})
