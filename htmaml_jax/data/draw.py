"""Which examples an episode holds: `episode = f(seed, split, index)`.

One counter-based integer hash decides everything. The same code runs on NumPy
(tf.data pipelines) and on JAX (inside the compiled step): `xp` is `numpy` or
`jax.numpy`, and the draws are equal bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

SPLITS = ("train", "validation", "test")
_CLASSES, _EXAMPLES, _WAY, _SHOT, _DOMAIN, _KEY = range(6)
_LAST = 0xFFFFFFFF


class Shape(NamedTuple):
    """Size of an episode; `min_way` and `min_shot` make it vary."""

    way: int
    shot: int
    query: int
    min_way: int
    min_shot: int


class Pool(NamedTuple):
    """The classes of one split, padded to the largest class.

    Attributes:
      examples: [C, M] int32 rows of the example table.
      recordings: [C, M] int32.
      valid: [C, M] bool, False for padding.
      domain_of: [C] int32, the domain of a class.
      domains: [P] int32, those that have classes.
    """

    examples: np.ndarray
    recordings: np.ndarray
    valid: np.ndarray
    domain_of: np.ndarray
    domains: np.ndarray


class Draw(NamedTuple):
    """Rows of the example table, by class slot and place.

    Attributes:
      support: [N, K] int32 rows, with support_mask [N, K] bool.
      query: [N, Q] int32 rows, with query_mask [N, Q] bool.
      classes: [N] int32 class of each slot, counted within the split.
      domain: [] int32, which all of them belong to.
      key: [] uint32, for what is drawn beside rows.
    """

    support: np.ndarray
    support_mask: np.ndarray
    query: np.ndarray
    query_mask: np.ndarray
    classes: np.ndarray
    domain: np.ndarray
    key: np.ndarray


def hashed(xp, *words):
    """Hashes broadcastable integer words to uint32, equally on each backend.

    The finaliser is "lowbias32" of C. Wellons' hash prospector (2018).
    """

    def mix(x):
        x = (x ^ (x >> xp.uint32(16))) * xp.uint32(0x7FEB352D)
        x = (x ^ (x >> xp.uint32(15))) * xp.uint32(0x846CA68B)
        return x ^ (x >> xp.uint32(16))

    state = xp.zeros((1,), xp.uint32)
    for word in words:
        word = xp.atleast_1d(xp.asarray(word)).astype(xp.uint32)
        state = mix((state ^ word) + xp.uint32(0x9E3779B9))
    return state


def uniform(xp, *words):
    """Draws float32 in [0, 1) with 24 bits, equally on every backend."""
    bits = hashed(xp, *words) >> xp.uint32(8)
    return bits.astype(xp.float32) * xp.float32(2**-24)


def normal(xp, *words):
    """Draws standard normal numbers by Box and Muller (1958)."""
    radius = xp.sqrt(-2 * xp.log(1 - uniform(xp, *words, 0)))
    return radius * xp.cos(xp.float32(2 * np.pi) * uniform(xp, *words, 1))


def make_pool(table: Table, split: str, shape: Shape) -> Pool:
    """Arranges a split for drawing, or says why episodes cannot be drawn."""
    classes = table.of_split(split)
    domains = table.domains_of(split)
    for domain in domains:
        name = table.domains[domain]
        count = int((table.domain_of[classes] == domain).sum())
        if shape.way > count:
            raise UserError(
                f"{shape.way}-way episodes need {shape.way} classes, but "
                f"split {split!r} of {name or table.name} has {count}; lower "
                "way."
            )
    rows = [np.flatnonzero(table.labels == c) for c in classes]
    # A recording in which several classes are heard.
    of_class = np.unique(
        np.concatenate([np.unique(table.recordings[r]) for r in rows]),
        return_counts=True,
    )
    shared = of_class[0][of_class[1] > 1]
    for label, mine in zip(classes, rows, strict=True):
        _check_class(table, table.classes[label], mine, shape, shared)
    width = max(map(len, rows))
    examples = np.zeros((len(classes), width), np.int32)
    valid = np.zeros((len(classes), width), bool)
    for i, mine in enumerate(rows):
        examples[i, : len(mine)] = mine
        valid[i, : len(mine)] = True
    return Pool(
        examples,
        table.recordings[examples],
        valid,
        table.domain_of[classes],
        domains,
    )


def _check_class(table, name, rows, shape, shared):
    """Refuses a class whose recordings cannot fill every possible draw.

    Its own support spoils `shot` recordings at most, the support of the other
    classes as many each of those that are `shared` between classes.
    """
    heard, sizes = np.unique(table.recordings[rows], return_counts=True)
    left = len(rows) - np.sort(sizes)[::-1][: shape.shot].sum()
    common = np.sort(sizes[np.isin(heard, shared)])[::-1]
    left -= common[: (shape.way - 1) * shape.shot].sum()
    if left < shape.query:
        raise UserError(
            f"class {name!r} of {table.name} has {len(rows)} examples from "
            f"{len(sizes)} recordings: after {shape.shot} for the support "
            f"as few as {max(left, 0)} from other recordings are left, and "
            f"{shape.query} queries are asked for; lower shot or query, or "
            "add recordings."
        )


def domain_of(xp, seed, split: int, index, domains) -> np.ndarray:
    """Draws the domain of an episode, one of domains [P]: [] int32."""
    word = hashed(xp, seed, split, index, _DOMAIN)[0]
    place = word % xp.uint32(len(domains))
    return xp.asarray(domains)[place].astype(xp.int32)


def draw(xp, pool: Pool, shape: Shape, seed, split: int, index) -> Draw:
    """Draws one episode.

    Args:
      xp: `numpy` or `jax.numpy`.
      pool: the classes of the split.
      shape: size of the episode.
      seed: [] integer.
      split: position in `SPLITS`.
      index: [] integer, global index of the episode.
    """
    way, shot, query = shape.way, shape.shot, shape.query

    def key(stream, *words):
        return hashed(xp, seed, split, index, stream, *words)

    def between(low, high, stream):
        return low + (key(stream)[0] % xp.uint32(high - low + 1)).astype(
            xp.int32
        )

    ways = between(shape.min_way, way, _WAY)
    shots = between(shape.min_shot, shot, _SHOT)
    count, width = pool.examples.shape
    last = xp.uint32(_LAST)
    domain = domain_of(xp, seed, split, index, pool.domains)
    # A random order of the domain's classes; others go last.
    keys = key(_CLASSES, xp.arange(count)) >> xp.uint32(1)
    keys = xp.where(pool.domain_of == domain, keys, last)
    classes = xp.argsort(keys, stable=True)[:way]
    examples, recordings, valid = (x[classes] for x in pool[:3])

    # A random order of each class; padding goes last.
    keys = key(_EXAMPLES, classes[:, None], xp.arange(width)[None, :])
    keys = keys >> xp.uint32(1)
    order = xp.argsort(xp.where(valid, keys, last), axis=1, stable=True)
    first = order[:, :shot]
    used = xp.broadcast_to(xp.arange(shot) < shots, (way, shot))
    # Queries share a recording with no support, of whatever class.
    there = (xp.arange(way) < ways)[:, None]
    heard = xp.take_along_axis(recordings, first, axis=1)
    own = xp.eye(way, dtype=bool)[:, :, None]
    counts = used[None, :, :] & (there[None, :, :] | own)
    clash = recordings[:, :, None, None] == heard[None, None, :, :]
    free = valid & ~(clash & counts[:, None]).any(axis=(2, 3))
    order = xp.argsort(xp.where(free, keys, last), axis=1, stable=True)
    return Draw(
        support=xp.take_along_axis(examples, first, axis=1),
        support_mask=used & there,
        query=xp.take_along_axis(examples, order[:, :query], axis=1),
        query_mask=xp.broadcast_to(there, (way, query)),
        classes=classes.astype(xp.int32),
        domain=domain,
        key=key(_KEY)[0],
    )


def queries(
    table: Table, shape: Shape, seed: int, split: str, count: int
) -> np.ndarray:
    """Returns the rows [count, N, Q] that the first episodes ask for."""
    pool, place = make_pool(table, split, shape), SPLITS.index(split)
    each = (draw(np, pool, shape, seed, place, i) for i in range(count))
    return np.stack([one.query for one in each])
