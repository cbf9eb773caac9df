"""Which examples an episode holds: `episode = f(seed, split, index)`.

One counter-based integer hash decides everything. The same code runs on NumPy
(tf.data pipelines) and on JAX (inside the compiled step): `xp` is `numpy` or
`jax.numpy`, and the draws are equal bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from htmaml_jax.data.table import QUERY, SUPPORT, Table
from htmaml_jax.data.together import sets_of
from htmaml_jax.errors import UserError

SPLITS = ("train", "validation", "test")
_CLASSES, _EXAMPLES, _WAY, _SHOT, _DOMAIN, _OTHER, _KEY = range(7)
_LAST = 0xFFFFFFFF


class Shape(NamedTuple):
    """Size of an episode; `min_way` and `min_shot` make it vary.

    Of volumes `way` structures are looked for in each.
    `queries` says from which domain they are: the "own" of the support,
    an "other" one, or "both", the latter as a second batch.
    """

    way: int
    shot: int
    query: int
    min_way: int
    min_shot: int
    queries: str = "own"


class Pool(NamedTuple):
    """The classes of one split, padded to the largest class.

    Attributes:
      examples: [C, M] int32 rows of the example table; recordings: theirs.
      supports: [C, M] bool, what may be support; False for padding.
      queries: [C, M] bool, what may be a query.
      domain_of: [C] int32, the domain of a class.
      domains: [D] int32, those that have classes in the split.
      named: [] bool, whether slots keep the order of the classes.
      names: [C, 1] int32 rows of the classes' names, or [C, 0].
      members: of volumes [C, N] int32, the classes that are looked for at
        once, counted within the split: each C is a set of them. Else [C, 0].
      numbers: [C, N] int32, their numbers in masks.
    """

    examples: np.ndarray
    recordings: np.ndarray
    supports: np.ndarray
    queries: np.ndarray
    domain_of: np.ndarray
    domains: np.ndarray
    named: np.ndarray
    names: np.ndarray
    members: np.ndarray
    numbers: np.ndarray


class Draw(NamedTuple):
    """Rows of the example table, by class slot and place.

    Attributes:
      support: [N, K] int32 rows, with support_mask [N, K] bool.
      query: [N, Q] int32 rows, with query_mask [N, Q] bool.
      classes: [N] int32 class of each slot, counted within the split.
      domain: [] int32, which all of them belong to.
      second: [N, Q] int32 rows of further queries from another domain, with
        the same mask; [N, 0] unless the shape asks for both.
      key: [] uint32, for what is drawn beside rows.
      numbers: of volumes [N] int32, the slots' numbers in masks; rows have
        the form of a single slot.
    """

    support: np.ndarray
    support_mask: np.ndarray
    query: np.ndarray
    query_mask: np.ndarray
    classes: np.ndarray
    domain: np.ndarray
    second: np.ndarray
    key: np.ndarray
    numbers: np.ndarray


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
    for domain, name in enumerate(table.domains):
        count = int((table.domain_of[classes] == domain).sum())
        absent = table.kind != "pictures" and not count
        if shape.way > count and not absent:
            raise UserError(
                f"{shape.way}-way episodes need {shape.way} classes, but "
                f"split {split!r} of {name or table.name} has {count}; lower "
                "way."
            )
    rows = [np.flatnonzero(table.labels == c) for c in classes]
    members = numbers = np.zeros((len(classes), 0), np.int32)
    if table.masks is not None:
        sets = sets_of(table, split, shape.way, shape.shot, shape.query)
        rows = [one.rows for one in sets]
        members = np.array([one.members for one in sets], np.int32)
        numbers = classes[members] + 1
        classes, shape = classes[members[:, 0]], shape._replace(way=1)
    # A recording in which several classes are heard.
    of_class = np.unique(
        np.concatenate([np.unique(table.recordings[r]) for r in rows]),
        return_counts=True,
    )
    shared = of_class[0][of_class[1] > 1]
    uses = table.uses
    if uses is None:
        uses = np.full(len(table.labels), SUPPORT | QUERY, np.uint8)
    for label, mine in zip(classes, rows, strict=True):
        where = f"class {table.classes[label]!r} of {table.name} ({split})"
        _check_class(table, where, mine, uses, shape, shared)
    width = max(map(len, rows))
    examples = np.zeros((len(classes), width), np.int32)
    may = np.zeros((len(classes), width), np.uint8)
    for i, mine in enumerate(rows):
        examples[i, : len(mine)] = mine
        may[i, : len(mine)] = uses[mine]
    domains = table.domains_of(split)
    if shape.queries != "own" and len(domains) < 2:
        raise UserError(
            f"queries of another domain need two or more, but split {split!r} "
            f"of {table.name} has {len(domains)}."
        )
    names = np.zeros((len(classes), 0), np.int32)
    if table.named_by is not None:
        names = table.named_by[classes][:, None]
    return Pool(
        examples,
        table.recordings[examples],
        may & SUPPORT > 0,
        may & QUERY > 0,
        table.domain_of[classes],
        domains,
        np.bool_(table.named),
        names,
        members,
        numbers,
    )


def _check_class(table, where, rows, uses, shape, shared):
    """Refuses a class whose recordings cannot fill every possible draw.

    Its own support spoils `shot` recordings at most, the support of the other
    classes as many each of those that are `shared` between classes.
    """
    first, asked = (rows[uses[rows] & use > 0] for use in (SUPPORT, QUERY))
    heard, sizes = np.unique(table.recordings[asked], return_counts=True)
    spoilt = np.isin(heard, table.recordings[first])
    left = len(asked) - np.sort(sizes[spoilt])[::-1][: shape.shot].sum()
    common = np.sort(sizes[np.isin(heard, shared)])[::-1]
    left -= common[: (shape.way - 1) * shape.shot].sum()
    if len(first) < shape.shot:
        raise UserError(
            f"{where} has {len(first)} examples that may be support, and "
            f"{shape.shot} are asked for; lower shot, or judge without its "
            "labels (eval.support)."
        )
    if left < shape.query:
        raise UserError(
            f"{where} has {len(rows)} examples from {len(sizes)} recordings: "
            f"after {shape.shot} for the support as few as {max(left, 0)} "
            f"from other recordings are left, and {shape.query} queries are "
            "asked for; lower shot or query, or add recordings."
        )


def domain_of(xp, seed, split: int, index, domains: int) -> np.ndarray:
    """Draws which of so many domains an episode is of: [] int32."""
    word = hashed(xp, seed, split, index, _DOMAIN)[0]
    return (word % xp.uint32(domains)).astype(xp.int32)


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
    several = pool.members.size > 0  # structures in one slot of volumes
    way, least = (1, 1) if several else (way, shape.min_way)

    def key(stream, *words):
        return hashed(xp, seed, split, index, stream, *words)

    def between(low, high, stream):
        return low + (key(stream)[0] % xp.uint32(high - low + 1)).astype(
            xp.int32
        )

    ways = between(least, way, _WAY)
    shots = between(shape.min_shot, shot, _SHOT)
    count, width = pool.examples.shape
    last = xp.uint32(_LAST)
    many = len(pool.domains)
    place = domain_of(xp, seed, split, index, many)

    def classes_of(domain):
        # A random order of the domain's classes; others go last.
        order = xp.arange(count, dtype=xp.uint32)
        keys = xp.where(pool.named, order, key(_CLASSES, order) >> xp.uint32(1))
        keys = xp.where(pool.domain_of == domain, keys, last)
        return xp.argsort(keys, stable=True)[:way]

    def in_order(classes, allowed):
        # A random order of each class; what is not allowed goes last.
        keys = key(_EXAMPLES, classes[:, None], xp.arange(width)[None, :])
        keys = xp.where(allowed, keys >> xp.uint32(1), last)
        return xp.argsort(keys, axis=1, stable=True)

    domain = pool.domains[place]
    classes = classes_of(domain)
    first = in_order(classes, pool.supports[classes])[:, :shot]
    used = xp.broadcast_to(xp.arange(shot) < shots, (way, shot))
    there = (xp.arange(way) < ways)[:, None]
    heard = xp.take_along_axis(pool.recordings[classes], first, axis=1)
    own = xp.eye(way, dtype=bool)[:, :, None]
    counts = used[None, :, :] & (there[None, :, :] | own)

    def queries(classes):
        # They share a recording with no support, of whatever class.
        mine = pool.recordings[classes][:, :, None, None]
        clash = mine == heard[None, None, :, :]
        free = ~(clash & counts[:, None]).any(axis=(2, 3))
        order = in_order(classes, pool.queries[classes] & free)
        rows = pool.examples[classes]
        return xp.take_along_axis(rows, order[:, :query], axis=1)

    asked = queries(classes)
    second = asked[:, :0]
    if shape.queries != "own":
        # Any of the other domains, all as likely.
        step = 1 + (key(_OTHER)[0] % xp.uint32(many - 1)).astype(xp.int32)
        second = queries(classes_of(pool.domains[(place + step) % many]))
    if shape.queries == "other":
        asked, second = second, second[:, :0]
    support = xp.take_along_axis(pool.examples[classes], first, axis=1)
    names = pool.names[classes]
    used = xp.concatenate([xp.ones(names.shape, bool), used], axis=1)
    slots = pool.members[classes[0]] if several else classes
    return Draw(
        support=xp.concatenate([names, support], axis=1),
        support_mask=used & there,
        query=asked,
        query_mask=xp.broadcast_to(there, (way, query)),
        classes=slots.astype(xp.int32),
        domain=domain,
        second=second,
        key=key(_KEY)[0],
        numbers=pool.numbers[classes[0]],
    )
