"""Several tables as one, whose tasks are each of one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from htmaml_jax.data.table import Masks, Table, renumbered
from htmaml_jax.errors import UserError

SIGN = "+"  # between the names of what is mixed
OF = ": "  # between the name of a table and that of its class
# What results call the mixture of configs/mixture.py.
KNOWN = {
    "omniglot+esc50-pack+commands+brains": "mixture",
    "synthseg+acdc+shapes": "seg3d",
}


def join(tables: Sequence[Table]) -> Table:
    """Puts tables of one kind and size together; each is a domain.

    Class names get the name of their table in front.

    Raises:
      UserError: the examples differ in kind or size.
    """
    if len({table.kind for table in tables}) > 1:
        raise UserError(
            f"{SIGN.join(table.name for table in tables)} mixes volumes with "
            "what is none; a mixture is of one of both."
        )
    shapes = {table.inputs.shape[1:] for table in tables}
    if len(shapes) > 1:
        raise UserError(
            f"a mixture needs pictures of one size, but there are "
            f"{', '.join(map(str, sorted(shapes)))}; set data.rows, "
            "data.columns and data.channels."
        )
    name = SIGN.join(table.name for table in tables)
    content = "".join(table.content for table in tables)
    examples = np.cumsum([0, *(len(t.labels) for t in tables)])
    classes = np.cumsum([0, *(len(t.classes) for t in tables)])
    masks = None
    if tables[0].masks is not None:
        parts = [
            t.masks._replace(
                masks=renumbered(
                    t.masks.masks, first + np.arange(len(t.classes))
                )
            )
            for t, first in zip(tables, classes, strict=False)
        ]
        masks = Masks(*map(np.concatenate, zip(*parts, strict=True)))
    heard = np.cumsum([0, *(t.recordings.max() + 1 for t in tables)])
    splits: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for split, names in table.splits.items():
            mine = tuple(f"{table.name}{OF}{n}" for n in names)
            splits[split] = splits.get(split, ()) + mine
    inputs = np.empty((examples[-1], *shapes.pop()), np.uint8)
    for table, first in zip(tables, examples, strict=False):
        inputs[first : first + len(table.labels)] = _bytes(table.inputs)
    return Table(
        name=KNOWN.get(name, name),
        origin=", ".join(table.origin for table in tables),
        inputs=inputs,
        labels=_shifted([t.labels for t in tables], classes),
        recordings=_shifted([t.recordings for t in tables], heard),
        classes=tuple(f"{t.name}{OF}{c}" for t in tables for c in t.classes),
        splits=splits,
        licence=", ".join(dict.fromkeys(t.licence for t in tables)),
        front_end={t.name: dict(t.front_end) for t in tables},
        domains=tuple(t.name for t in tables),
        domain_of=np.repeat(
            np.arange(len(tables), dtype=np.int32),
            [len(t.classes) for t in tables],
        ),
        kind=tables[0].kind,
        content=content,
        masks=masks,
    )


def _bytes(inputs):
    if inputs.dtype == np.uint8:
        return inputs
    return np.rint(255 * inputs).astype(np.uint8)


def _shifted(arrays, starts):
    shifted = [x + s for x, s in zip(arrays, starts, strict=False)]
    return np.concatenate(shifted).astype(np.int32)
