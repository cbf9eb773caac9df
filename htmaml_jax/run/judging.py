"""Judging a learner on the first episodes of a source, block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from htmaml_jax.run import machine, step
from htmaml_jax.run import mesh as meshes

_BLOCK = 40  # episodes per compiled call, about


def make_judge(
    learner: Any,
    source: Any,
    mesh: Any,
    episodes: int,
    chunk: int,
    asked: Callable | None = None,
    most: int = 0,
) -> Callable[[Any], Any]:
    """Makes meta -> metrics [episodes] of a source's first episodes.

    It tells a second argument, if given, how many it has after each block.
    `chunk` tasks at a time went through training, which takes more memory.
    `asked` is what `step.make_eval_step` is to ask instead of the metric.
    `most` tasks at a time, if not 0, are what a person has asked for.
    """
    each = -(-_BLOCK // mesh.size)
    block = each * mesh.size
    if most:
        chunk = max(n for n in range(1, most + 1) if each % n == 0)
    else:
        chunk = machine.choose_chunk(each, 0, chunk)
    run = step.make_eval_step(
        learner, source.episodes, mesh, chunk, learner.shuffled, asked
    )
    shared = meshes.replicate(mesh, source.shared)

    def judge(meta, tell=None):
        values = []
        place = jax.process_index(), jax.process_count()
        pieces = source.pieces(0, block, *place)
        while len(values) * block < episodes:
            piece = meshes.shard(mesh, next(pieces))
            values.append(jax.device_get(run(meta, shared, piece)))
            if tell:
                tell(min(len(values) * block, episodes))
        return jax.tree.map(lambda *x: np.concatenate(x)[:episodes], *values)

    return judge
