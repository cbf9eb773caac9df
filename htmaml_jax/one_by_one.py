"""Several structures by a network that learned on one at a time."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from htmaml_jax.embed.task import TaskEmbedding
from htmaml_jax.episode import Batch
from htmaml_jax.learner import Learner


@dataclasses.dataclass(frozen=True, eq=False)
class OneByOne(Learner):
    """A Learner that adapts to each structure of a task on its own.

    What training never showed, two structures in one task, is put as what it
    did: one structure, all else background. Every logit is against the same
    0 of the background, so that those of all networks make one softmax.
    Whatever it returns of adapted networks has the structures [N] in front.
    """

    @functools.cached_property
    def one(self) -> Learner:
        """The Learner of a task with one structure."""
        return Learner(self.config, 1, self.transductive, self.known, self.bert)

    def apart(self, support: Batch) -> Batch:
        """Makes a support set [N, ...] for each structure."""
        slots = 1 + jnp.arange(self.way)

        def of(slot):
            found = support.targets == slot
            return support._replace(targets=found.astype(jnp.int32))

        return jax.vmap(of)(slots)

    def start(self, meta, support, domain, read=None, **more):
        """See `Slots.start`."""

        def begin(support, read):
            return self.one.start(meta, support, domain, read, **more)

        read = None if read is None else self.apart(read)
        return self._each(begin, self.apart(support), read)

    def polish(self, start, support, *more, **named):
        """See `Descent.polish`."""

        def go(start, support):
            return self.one.polish(start, support, *more, **named)

        return self._each(go, start, self.apart(support))

    def tune(self, adapted, support):
        """See `Descent.tune`."""
        return self._each(self.one.tune, adapted, self.apart(support))

    def answers(self, adapted, inputs, mask=None, *more):
        """See `Descent.answers`."""

        def answer(adapted):
            return self.one.predict(adapted, inputs, mask, *more)

        # [N, Q, D, H, W, 1] to [Q, D, H, W, N].
        return jnp.moveaxis(self._each(answer, adapted)[..., 0], 0, -1), {}

    def read(self, meta, start, support, domain) -> TaskEmbedding:
        """See `Slots.read`; the summary is the mean over structures."""

        def see(start, support):
            return self.one.read(meta, start, support, domain)

        found = self._each(see, start, self.apart(support))
        return found._replace(
            tokens=found.tokens[:, 0],
            summary=jnp.mean(found.summary, 0),
            valid=found.valid[:, 0],
        )

    def _each(self, function, *trees) -> Any:
        """Maps over structures; a batch of networks would be slower."""
        return jax.lax.map(lambda x: function(*x), trees)
