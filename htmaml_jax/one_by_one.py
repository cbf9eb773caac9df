"""Several structures by a network that learned on one at a time."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from htmaml_jax.embed.task import TaskEmbedding
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.learner import Learner


@dataclasses.dataclass(frozen=True, eq=False)
class OneByOne(Learner):
    """A Learner that adapts to each structure of a task on its own.

    What training never showed, several structures in one task, is put as what
    it did: one structure, all else background. Each logit is the log-odds of
    a structure against all else; of those that are likelier than all else the
    likeliest is the answer. What it returns of adapted networks has the
    structures [N] in front. For use: nothing here is trained.
    """

    @functools.cached_property
    def one(self) -> Learner:
        """The Learner of a task with one structure."""
        return Learner(self.config, 1, self.transductive, self.known, self.bert)

    def init(self, key: jax.Array, episode: Episode) -> Any:
        """See `Learner.init`; meta does not depend on the structures."""
        return self.one.init(key, episode)

    def only(self, slot: jax.Array, batch: Batch | None) -> Batch | None:
        """Makes structure `slot` the only one of a batch, as number 1."""
        if batch is None:
            return None
        found = batch.targets == slot
        return batch._replace(targets=found.astype(jnp.int32))

    def start(self, meta, support, domain, read=None, **more):
        """See `Slots.start`."""

        def begin(slot):
            mine, other = self.only(slot, support), self.only(slot, read)
            return self.one.start(meta, mine, domain, other, **more)

        return self._each(begin)

    def polish(self, start, support, *more, **named):
        """See `Descent.polish`; weights are [N], too."""

        def go(slot, start):
            mine = self.only(slot, support)
            return self.one.polish(start, mine, *more, **named)

        return self._each(go, start)

    def tune(self, adapted, support):
        """See `Descent.tune`."""

        def go(slot, adapted):
            return self.one.tune(adapted, self.only(slot, support))

        return self._each(go, adapted)

    def answers(self, adapted, inputs, mask=None, *more):
        """See `Descent.answers`; levels are for training, here none."""

        def answer(_, adapted):
            return self.one.predict(adapted, inputs, mask, *more)

        # [N, Q, D, H, W, 1] to [Q, D, H, W, N].
        return jnp.moveaxis(self._each(answer, adapted)[..., 0], 0, -1), {}

    def read(self, meta, start, support, domain) -> TaskEmbedding:
        """See `Slots.read`; the summary [E] is the mean over structures."""

        def see(slot, start):
            mine = self.only(slot, support)
            return self.one.read(meta, start, mine, domain)

        found = self._each(see, start)
        return found._replace(summary=jnp.mean(found.summary, 0))

    def _each(self, function, *trees):
        """Maps (slot, a leaf [N, ...] each) over structures, one at a time.

        In the memory of one; as with tasks, a network that is alone needs no
        batch axis for its weights.
        """
        slots = 1 + jnp.arange(self.way)
        return jax.lax.map(lambda x: function(*x), (slots, *trees))
