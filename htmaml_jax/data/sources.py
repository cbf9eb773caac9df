"""Two episode sources with the same draws: `device` and `tfdata`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htmaml_jax.data import draw as draws
from htmaml_jax.data import paint
from htmaml_jax.data.table import Table
from htmaml_jax.episode import Batch, Episode


class Source(NamedTuple):
    """Where a compiled step finds its episodes.

    Attributes:
      shared: arrays that every device holds whole.
      pieces: (first, count, host=0, hosts=1) -> iterator over steps. Its
        first item stands for the episodes first .. first + count - 1, of
        which it holds this host's share on the leading axis of every leaf;
        its second for the next count, and so on.
      episodes: (shared, pieces) -> Episode of [count, ...]; traced.
    """

    shared: Any
    pieces: Callable[..., Iterator[Any]]
    episodes: Callable[[Any, Any], Episode]


def local_share(count: int, host: int, hosts: int) -> range:
    """Returns which of `count` tasks a host builds: one block each."""
    each = count // hosts
    return range(host * each, (host + 1) * each)


def index_pieces(
    first: int, count: int, host: int = 0, hosts: int = 1
) -> Iterator[np.ndarray]:
    """Yields the indices of a host's share, step by step; see `Source`."""
    share = np.asarray(local_share(count, host, hosts), np.int32)
    while True:
        yield first + share
        first += count


class Examples(NamedTuple):
    """What rows are gathered from; see `Table`.

    Mean and deviation are in units of `inputs`: a subtraction and a division
    are rounded alike everywhere, other orders of the same are not.
    """

    inputs: Any
    mean: Any
    deviation: Any
    masks: Any = None
    drawn: Any = None


def examples_of(table: Table) -> Examples:
    """Returns the examples of a table and their scale."""
    whole = 255 if table.inputs.dtype == np.uint8 else 1
    scale = [np.multiply(x, whole, dtype=np.float32) for x in table.scale]
    if table.masks is None:
        return Examples(table.inputs, *scale)
    masks, drawn = table.masks.masks, table.masks.drawn
    # Without any to draw nothing of that is compiled.
    return Examples(table.inputs, *scale, masks, drawn if drawn.any() else None)


def standard(xp, examples: Examples, rows: Any) -> Any:
    """Gathers rows [n] as inputs [n, ...], standardised; ids as they are."""
    inputs = examples.inputs[rows]
    if inputs.dtype == xp.int32:
        return inputs
    inputs = inputs.astype(xp.float32)
    return (inputs - examples.mean) / examples.deviation


def batches(
    table: Table, rows: np.ndarray, size: int = 256
) -> Iterator[np.ndarray]:
    """Yields inputs [size, ...] of rows; the last ones repeat.

    What is drawn, is drawn in one contrast, as in a task.
    """
    examples = examples_of(table)
    for first in range(0, len(rows), size):
        mine = np.resize(rows[first : first + size], size)
        if examples.masks is None:
            yield standard(np, examples, mine)
        else:
            yield paint.images(np, examples, mine, np.uint32(0), first)


def pairs(table: Table, rows: np.ndarray, size: int) -> tuple[Any, Callable]:
    """Returns (shared, sample) that draws `size` of the rows, none twice.

    `sample` maps (shared, key) to inputs [size, ...], those of their partners
    and groups [size], in a compiled step. The partner is any of the rows that
    say the same, itself included, and the group is theirs; where nothing is
    translated, the example itself, and its recording. An image of a volume
    that is drawn, is drawn twice, in two contrasts.
    """
    groups = table.recordings if table.parallel is None else table.parallel
    # Rows in order of their groups: where that of each begins, how long it is.
    rows = rows[np.argsort(groups[rows], kind="stable")]
    _, first, of, count = np.unique(
        groups[rows], return_index=True, return_inverse=True, return_counts=True
    )
    spans = first[of], count[of]
    shared = (examples_of(table), groups, rows, spans)

    def sample(shared, key):
        examples, groups, rows, (first, count) = shared
        one, two = jax.random.split(key)
        place = jax.random.choice(one, len(rows), (size,), replace=False)
        if table.masks is not None:
            mine = rows[place]
            sides = (
                paint.images(jnp, examples, mine, contrast, 0)
                for contrast in jax.random.bits(two, (2,))
            )
            return *sides, groups[mine]
        inputs = standard(jnp, examples, rows[place])
        if table.parallel is None:
            return inputs, inputs, groups[rows[place]]
        other = jax.random.randint(two, (size,), 0, count[place])
        partners = standard(jnp, examples, rows[first[place] + other])
        return inputs, partners, groups[rows[place]]

    return shared, sample


def assemble(xp, examples: Examples, drawn: draws.Draw, index) -> Episode:
    """Gathers the rows of a draw into an Episode, standardised."""

    def side(rows, mask, first):
        way, places = rows.shape
        if examples.masks is not None:
            rows, mask = rows.reshape(-1), mask.reshape(-1)
            images = paint.images(xp, examples, rows, drawn.key, first)
            # In a task its structures are 1 to N; all else is background.
            same = examples.masks[rows][..., None] == drawn.numbers
            slots = 1 + xp.arange(len(drawn.numbers), dtype=xp.int32)
            masks = xp.sum(xp.where(same, slots, 0), axis=-1, dtype=xp.int32)
            return Batch(images, masks, mask.astype(xp.float32))
        return Batch(
            inputs=standard(xp, examples, rows.reshape(-1)),
            targets=xp.repeat(xp.arange(way, dtype=xp.int32), places),
            mask=mask.reshape(-1).astype(xp.float32),
        )

    second, asked = None, drawn.support.size
    if drawn.second.size:
        place = asked + drawn.query.size
        second = side(drawn.second, drawn.query_mask, place)
    return Episode(
        support=side(drawn.support, drawn.support_mask, 0),
        query=side(drawn.query, drawn.query_mask, asked),
        index=xp.asarray(index, xp.int32),
        domain=drawn.domain,
        classes=drawn.classes,
        second=second,
    )


def device(table: Table, shape: draws.Shape, split: str, seed: int) -> Source:
    """Draws and gathers inside the compiled step: no host in the loop."""
    pool = draws.make_pool(table, split, shape)
    place = draws.SPLITS.index(split)

    def episodes(shared, indices):
        examples, pool, seed = shared

        def one(index):
            drawn = draws.draw(jnp, pool, shape, seed, place, index)
            return assemble(jnp, examples, drawn, index)

        return jax.vmap(one)(indices)

    # The seed is data, so that one compiled program serves every seed.
    shared = (examples_of(table), pool, np.uint32(seed))
    return Source(shared, index_pieces, episodes)


def asked(
    table: Table, shape: draws.Shape, seed: int, split: str, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the first episodes ask for.

    Returns:
      Rows [count, N, Q], of volumes [count, 1, Q], and classes [count, N].
    """
    pool = draws.make_pool(table, split, shape)
    place, classes = draws.SPLITS.index(split), table.of_split(split)
    each = [draws.draw(np, pool, shape, seed, place, i) for i in range(count)]
    rows = np.stack([one.query for one in each])
    return rows, np.stack([classes[one.classes] for one in each])
