"""The tf.data episode source: parallel, prefetched, restarted by index."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from htmaml_jax.data import draw as draws
from htmaml_jax.data.sources import (
    Source,
    assemble,
    examples_of,
    local_share,
)
from htmaml_jax.data.table import Table
from htmaml_jax.episode import Batch, Episode

# TensorFlow only feeds; the accelerator belongs to JAX.
tf.config.set_visible_devices([], "GPU")


def tfdata(table: Table, shape: draws.Shape, split: str, seed: int) -> Source:
    """Builds episodes on the host, the same ones as `sources.device`.

    Each is a function of its index alone, so a pipeline may start anywhere
    and hosts share the work by index without talking to each other.
    """
    pool = draws.make_pool(table, split, shape)
    place = draws.SPLITS.index(split)
    examples = examples_of(table)

    def build(index):
        drawn = draws.draw(np, pool, shape, seed, place, index)
        episode = assemble(np, examples, drawn, index)
        rest = (episode.domain, episode.classes)
        return (*(x for side in sides(episode) for x in side), *rest)

    def sides(episode):
        found = (episode.support, episode.query, episode.second)
        return [side for side in found if side is not None]

    def pieces(first, count, host=0, hosts=1):
        share = local_share(count, host, hosts)

        def index_of(i):
            step, place = i // len(share), i % len(share)
            return first + step * count + share.start + place

        def load(i):
            index = index_of(i)
            kinds = (*parts_of * many, np.int32, np.int32)
            parts = tf.numpy_function(build, [index], kinds)
            for part, size in zip(
                parts, (*sizes * many, (), (None,)), strict=True
            ):
                part.set_shape(size)
            return tuple(parts), index

        item = table.inputs.shape[1:]
        ids = table.inputs.dtype == np.int32
        parts_of = (np.int32 if ids else np.float32, np.int32, np.float32)
        marks = () if table.masks is None else table.masks.masks.shape[1:]
        sizes = ((None, *item), (None, *marks), (None,))
        many = 3 if shape.queries == "both" else 2
        dataset = (
            tf.data.Dataset.range(2**31 - 1)
            .map(load, tf.data.AUTOTUNE, deterministic=True)
            .batch(len(share), drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
        )
        for parts, index in dataset.as_numpy_iterator():
            yield Episode(
                support=Batch(*parts[:3]),
                query=Batch(*parts[3:6]),
                index=index.astype(np.int32),
                domain=parts[-2],
                classes=parts[-1],
                second=Batch(*parts[6:9]) if many == 3 else None,
            )

    return Source((), pieces, lambda shared, pieces: pieces)
