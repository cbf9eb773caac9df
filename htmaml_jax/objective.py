"""The fourth slot at work: what meta-training minimises."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from htmaml_jax.descent import Descent
from htmaml_jax.episode import Batch, Episode, present
from htmaml_jax.hyper import heads
from htmaml_jax.outer import exchange, gradients, losses, mixing, views
from htmaml_jax.outer.augment import Strengths, augment


@dataclasses.dataclass(frozen=True, eq=False)
class Objective(Descent):
    """Adds the outer loss of one task to `Descent`."""

    @property
    def paired(self):
        """Whether a task of training needs the support of another one."""
        return self.shuffled or self.config.outer.exchange.kind in (
            "task",
            "both",
        )

    def meta_loss(
        self,
        meta: Any,
        episode: Episode,
        key: jax.Array,
        progress: jax.Array | float = 1.0,
        other: Batch | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns what to minimise, and metrics of the adapted learner.

        Args:
          meta: see `init`.
          episode: one task.
          key: of all that is random in it.
          progress: share of training that is done.
          other: support of another task, where `paired` asks for it.
        """
        outer = self.config.outer
        if outer.frozen:
            meta = gradients.frozen(outer.frozen, meta)
        first, second = jax.random.split(key)
        strengths = Strengths(**outer.augment)

        def apart():
            # A class must stay what it is called: left is not right.
            changes = dict.fromkeys(("reverse", "shift", "blend", "flip"), 0.0)
            called = strengths._replace(**changes)
            return self._joint_loss(
                meta, augment(episode, first, self.way, called)
            )

        # Schedules of meta-training begin where joint training ends.
        idle = outer.joint_until
        since = (progress - idle) / (1 - idle)

        def tasks():
            task = augment(episode, first, self.way, strengths)
            return self._task_loss(meta, task, second, since, other)

        if not outer.joint_until:
            return apart() if "joint" in meta else tasks()
        missing = jax.eval_shape(tasks)[1]

        def before():
            loss, metrics = apart()
            zeros = {name: jnp.zeros_like(loss) for name in missing}
            return loss, zeros | metrics

        return jax.lax.cond(progress < outer.joint_until, before, tasks)

    def _task_loss(self, meta, episode, second, progress, other):
        """Adapts to a task, changed already, and judges by its queries."""
        outer, problem = self.config.outer, self.problem
        if outer.objective == "joint" and problem.named:
            both = (episode.support, episode.query)
            both = jax.tree.map(lambda *x: jnp.concatenate(x), *both)
            episode = episode._replace(query=both)
        query = episode.query
        shuffle, answer = self.hardened(episode, second)
        start = self.start(
            meta,
            episode.support,
            episode.domain,
            other if self.shuffled else None,
            second,
            progress,
            shuffle,
        )
        adapted, weights = self.polish(
            start, episode.support, progress, True, shuffle
        )
        outputs, each = zip(*map(answer, adapted), strict=True)
        metrics = {
            "loss": each[-1],
            problem.metric: problem.score(outputs[-1], query),
        }
        if (further := episode.second) is not None:
            # HateMAML (Awal et al., 2023): half of the loss is that of
            # queries from another domain.
            found = [
                self.predict(a, further.inputs, further.mask) for a in adapted
            ]
            more = [problem.loss(out, further) for out in found]
            each = [(a + b) / 2 for a, b in zip(each, more, strict=True)]
            metrics["loss"] = each[-1]
            score = problem.score(found[-1], further)
            metrics[f"other_{problem.metric}"] = score
        objective = sum(w * x for w, x in zip(weights, each, strict=True))
        if outer.gradient == "reptile":
            objective = gradients.reptile(start.theta, adapted[-1].params)
        if self.generates:
            there = None
            if problem.classes:
                there = present(episode.support, self.way)
            moved = heads.movement(start.theta, start.shared, there)
            metrics["moved"] = moved
            objective += self.config.hyper.move_penalty * moved
        for name, weight, loss in self.auxiliaries(
            meta, episode, second, other
        ):
            metrics[name] = loss
            objective += weight * loss
        if self.config.embed.reconstruct:
            metrics["reconstruction"] = start.loss
            objective += self.config.embed.reconstruct * start.loss
        return objective, metrics

    def hardened(self, episode, key):
        """Draws how meta-training hardens a task; see `outer.mixing`.

        Returns:
          The shuffle for the inner loop, or None; and the function Adapted
          -> (outputs for the queries, their loss).
        """
        outer, query = self.config.outer, episode.query
        shuffle = mix = None
        first, second = jax.random.split(jax.random.fold_in(key, 1))
        blocks = self.config.net.blocks
        if outer.shuffle:
            shuffle = mixing.draw_shuffle(
                first, outer.shuffle, self.way, blocks
            )
        if outer.mix:
            mix = mixing.draw_mix(
                second, outer.mix, episode.support, query, blocks
            )
        if shuffle is None and mix is None:

            def plain(adapted):
                out, levels = self.answers(adapted, query.inputs, query.mask)
                return out, self.judged(out, levels, adapted, query)

            return None, plain
        both = jax.tree.map(
            lambda *x: jnp.concatenate(x), query, episode.support
        )
        change = mixing.changes(shuffle, mix, episode, self.way)
        shares = None
        if mix is not None:
            shares = mixing.blended_targets(mix, episode, self.way)

        def changed(adapted):
            out = self.predict(adapted, both.inputs, both.mask, change)
            out = out[: len(query.targets)]
            return out, losses.cross_entropy(out, query, shares)

        return shuffle, changed

    def judged(self, outputs, levels, adapted, query):
        """Returns the loss of outputs, and of coarse levels if those answer.

        Weights halve from level to level and sum to 1, as in nnU-Net (Isensee
        et al., 2021), which leaves the coarsest level out. A level answers by
        the head of all, for the middle voxel of each of its cells.
        """
        found, weights = [self.problem.loss(outputs, query)], [1.0]
        head = adapted.params["head"]
        for name, (features,) in levels.items():
            step = query.targets.shape[1] // features.shape[1]
            middle = slice(step // 2, None, step)
            part = query.targets[:, middle, middle, middle]
            answer = features.astype(head["bias"].dtype) @ head["kernel"]
            answer += head["bias"]
            found.append(
                self.problem.loss(answer, query._replace(targets=part))
            )
            weights.append(0.5 ** int(name.removeprefix("level")))
        total = sum(w * x for w, x in zip(weights, found, strict=True))
        return total / sum(weights)

    def own(self, meta, episode):
        """Returns the base network, of the task's domain if each has one."""
        if self.config.hyper.kind != "domain":
            return meta["base"]
        return jax.tree.map(lambda x: x[episode.domain], meta["base"])

    def auxiliaries(self, meta, episode, key, other):
        """Returns (name, weight, loss) of what else trains the base network.

        Args:
          meta: see `init`.
          episode: one task.
          key: of the views.
          other: support of another task, for channel exchange between tasks.
        """
        outer, base = self.config.outer, self.own(meta, episode)
        batch = jax.tree.map(
            lambda *x: jnp.concatenate(x), episode.support, episode.query
        )
        found = []
        if outer.auxiliary:
            how = views.strengths(self.config.pretrain)
            one, two = (
                self.features(base, batch._replace(inputs=x))
                for x in views.pair(batch.inputs, key, how)
            )
            # Examples repel each other whatever their classes: no label.
            alone = batch._replace(targets=jnp.arange(len(batch.targets)))
            temperature = self.config.pretrain.temperature
            loss = exchange.contrast(one, two, alone, temperature)
            found.append(("auxiliary", outer.auxiliary, loss))
        wanted = outer.exchange
        if wanted.kind == "none":
            return found
        donors = {"class": [None], "task": [other], "both": [None, other]}
        plain = self.features(base, batch)
        for donor in donors[wanted.kind]:
            changed = exchange.changed_features(
                functools.partial(self.features, base),
                batch,
                self.way,
                wanted.layer,
                exchange.norm_scale(base["body"], wanted.layer),
                wanted.share,
                donor,
            )
            loss = exchange.contrast(plain, changed, batch, wanted.temperature)
            name = "exchange" if donor is None else "exchange_tasks"
            found.append((name, wanted.weight, loss))
        return found

    def _joint_loss(self, meta, episode):
        """Classifies support and query among all training classes."""
        batch = jax.tree.map(
            lambda *x: jnp.concatenate(x), episode.support, episode.query
        )
        head = meta["joint"]
        if self.problem.classes:
            batch = batch._replace(targets=episode.classes[batch.targets])
        else:
            # Of a volume the structures of the task alone are judged.
            head = jax.tree.map(lambda x: x[..., episode.classes], head)
        features = self.features(self.own(meta, episode), batch)
        outputs = features @ head["kernel"] + head["bias"]
        # As an inner step does: where all voxels weigh the same, a network
        # that is not adapted ends with no structure anywhere.
        loss = self.problem.inner(outputs, batch)
        score = self.problem.score(outputs, batch)
        return loss, {"loss": loss, self.problem.metric: score}
