"""Finds the data: which table a run learns from, and in what order it looks.

`data.dir`, then $HTMAML_DATA, then the TFDS data directory, then a download
that the person agreed to, then the built-in synthetic calls.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np

from htmaml_jax import config as configs
from htmaml_jax.data import (
    brains,
    commands,
    draw,
    esc,
    functions,
    hate,
    intents,
    mixture,
    omniglot,
    organs,
    places,
    sources,
    texts,
    xsid,
)
from htmaml_jax.data.audio import FrontEnd
from htmaml_jax.data.functions import FAMILIES, Functions
from htmaml_jax.data.table import Table
from htmaml_jax.episode import Batch, Episode
from htmaml_jax.errors import UserError

# Readers of one folder each, which they know by its name or what is in it.
READERS = {"omniglot": omniglot, "commands": commands, "brains": brains}
_ESC = ("auto", "esc50-pack", "esc50", "esc10")


def front_end(data: Any) -> FrontEnd:
    """Reads the front end's settings from the config group `data`."""
    names = [f.name for f in dataclasses.fields(FrontEnd)]
    return FrontEnd(**{name: data[name] for name in names})


def load(data: Any) -> Table | Functions:
    """Loads the data that the config group `data` asks for."""
    if data.name in FAMILIES:
        return FAMILIES[data.name]
    if data.name in configs.TEXTS:
        return _texts(data)
    configs.refuse_unknown(data.name)
    names = data.name.split(mixture.SIGN)
    same = [name for name in names if name in _ESC]
    if len(same) > 1 or len(set(names)) < len(names):
        raise UserError(
            f"data.name={data.name} holds the same classes twice; name each "
            f"once, and one of {', '.join(_ESC)}."
        )
    if len(names) == 1:
        return _load(data)
    tables = []
    for name in names:
        one = data.copy_and_resolve_references()
        one.name = name
        tables.append(_load(one))
    return mixture.join(tables)


def _texts(data):
    if data.name == "texts":
        if not data.dir:
            raise UserError(
                f"data.name=texts needs --config.data.dir: {texts.EXPECTED}."
            )
        path = pathlib.Path(data.dir).expanduser()
        found, splits = texts.read_file(path), None
        if not data.fold:
            splits = {"test": tuple(sorted(set(found.labels)))}
        return texts.table(found, path.stem, splits, data)
    reader = {"hate": hate, "xsid": xsid}.get(data.name, intents)
    folder, shared = places.given(data.dir, data.name, f"{reader.EXPECTED}")
    table = reader.read(folder, data)
    return places.travelling(table, folder) if shared else table


def _load(data):
    if data.name in configs.VOLUMES:
        return organs.load(data)
    front = front_end(data)
    if data.name == "synthetic-calls":
        return _synthetic(front)
    if data.dir:
        folder = places.folder(data.dir, "data.dir")
        if table := _read(folder, data, front, clips=True):
            return table
        raise UserError(
            f"data.dir {folder} holds no {data.name} data: expected "
            f"{esc.PACK}/, an ESC-50 tree (meta/esc50.csv and audio/), or "
            "one folder of sound files per class."
        )
    if os.environ.get("HTMAML_DATA"):
        folder = places.folder(os.environ["HTMAML_DATA"], "$HTMAML_DATA")
        if table := _read(folder, data, front, clips=data.name == "clips"):
            return places.travelling(table, folder)
    if data.name in READERS:
        raise UserError(
            f"no {data.name} data: give --config.data.dir, a folder with "
            f"{READERS[data.name].EXPECTED}."
        )
    which = "esc10" if data.name == "esc10" else "esc50"
    tfds_dir = pathlib.Path(
        os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    ).expanduser()
    if (tfds_dir / which).is_dir() and data.name in ("auto", which):
        return _esc(which, data, front, data_dir=tfds_dir)
    if data.download and data.name in ("auto", which):
        return _esc(which, data, front, data_dir=tfds_dir, download=True)
    if data.name == "auto":
        if os.environ.get("HTMAML_DATA"):
            print(
                f"data: $HTMAML_DATA {folder} holds neither {esc.PACK}/ nor "
                "an ESC-50 tree; clips of your own need --config.data.dir"
            )
        return _synthetic(front)
    raise UserError(
        f"no {data.name} data found in $HTMAML_DATA or {tfds_dir}; give "
        "--config.data.dir, or --config.data.download=True to fetch ESC."
    )


def _read(folder, data, front, clips):
    """Reads the first known data set at or below a folder, or None."""

    if reader := READERS.get(data.name):
        inside = folder / reader.FOLDER
        # A folder that was given for clips of one's own is looked into
        # whatever it is called; of a folder of data sets only parts are.
        if inside.is_dir() or clips:
            place = inside if inside.is_dir() else folder
            return reader.read(place, front)
        named = folder.name == reader.FOLDER
        if named or any((folder / mark).exists() for mark in reader.MARKS):
            return reader.read(folder, front)
        return None

    def wants(name):
        return data.name in ("auto", name)

    if wants("esc50-pack"):
        for pack in (folder, folder / esc.PACK):
            if pack.name == esc.PACK and pack.is_dir():
                return esc.read_pack(pack, front, data.split)
    if wants("esc50"):
        for tree in (folder, folder / "ESC-50-master", folder / "ESC-50"):
            marks = ("meta/esc50.csv", "ESC-50-master.zip")
            if any((tree / mark).exists() for mark in marks):
                return _esc("esc50", data, front, manual_dir=tree)
    if data.name == "esc10":
        for tree in (folder / "esc10_audio", folder / "ESC-10", folder):
            marks = ("meta.csv", "001 - Dog bark", "ESC-10-master.zip")
            named = tree.name in ("esc10_audio", "ESC-10")
            if named or any((tree / mark).exists() for mark in marks):
                if tree.is_dir():
                    return _esc("esc10", data, front, manual_dir=tree)
    if clips and wants("clips"):
        from htmaml_jax.data.clips import read_folder

        return read_folder(folder, front, data.recording or None)
    return None


def _esc(which, data, front, **where):
    from htmaml_jax.data.builders import load_esc

    splits = esc.splits_named(data.split)
    if which == "esc10":
        # Its classes are for tests, or split by the hash of their names.
        whole = data.split == "esc10"
        splits = {"test": splits["test"]} if whole else None
    return load_esc(which, front, splits, **where)


def _synthetic(front):
    from htmaml_jax.data.synthetic import calls

    return calls(front)


def domains(
    table: Table | Functions, split: str, seed: int, episodes: int
) -> dict[str, np.ndarray]:
    """Returns which of the first episodes, [E] bool, are of which domain.

    Of a single domain, and of functions, it returns nothing.
    """
    if len(table.domains) == 1 or isinstance(table, Functions):
        return {}
    place, there = draw.SPLITS.index(split), table.domains_of(split)
    drawn = np.array(
        [
            draw.domain_of(np, seed, place, i, len(there))
            for i in range(episodes)
        ]
    )
    return {table.domains[d]: drawn == i for i, d in enumerate(there)}


def benchmark(table: Table | Functions, data: Any, domain: str = "") -> str:
    """Returns what results on this data, or one domain of it, are called."""
    # One's own folder may be called as a known one.
    named = organs.BENCHMARKS.get(data.name, table.name)
    if table.name in ("esc50-pack", "esc50"):
        named = f"esc50-{data.split}"
    if not domain:
        return named
    return domain if table.named else f"{named}-{domain}"


def check_domains(data: Any, table: Table | Functions) -> None:
    """Refuses a count of domains that the data does not have."""
    count = len(table.domains)
    if data.domains != count:
        raise UserError(
            f"data.domains is {data.domains}, but data.name={data.name} "
            f"makes {count}; set it to that."
        )


def training_shape(data: Any, queries: str = "own") -> draw.Shape:
    """Returns the size of training episodes; see `draw.Shape`."""
    return draw.Shape(
        data.way,
        data.shot,
        data.query,
        data.min_way or data.way,
        data.min_shot or data.shot,
        queries,
    )


def fixed_shape(group: Any) -> draw.Shape:
    """Returns the size of episodes from the config group eval or data."""
    way, shot = group.way, group.shot
    return draw.Shape(way, shot, group.query, way, shot)


def blank_episode(data: Any) -> Episode:
    """Returns an episode of zeros of the shapes that a config implies."""
    if data.name in FAMILIES:
        shape = fixed_shape(data)
        made = functions.build(np, FAMILIES[data.name], shape, 0, 0, 0)
        return jax.tree.map(np.zeros_like, made)
    form, cube = configs.form(data), (data.side,) * 3
    size = {
        "pictures": (data.rows, data.columns, data.channels),
        "volumes": (*cube, 1),
    }.get(form, (data.size,))
    shape = (data.way * data.shot, *size)
    targets = np.repeat(np.arange(data.way, dtype=np.int32), data.shot)
    if form == "volumes":
        shape = (data.shot, *size)
        targets = np.zeros(shape[:-1], np.int32)
    side = Batch(
        inputs=np.zeros(
            shape, np.int32 if form in ("ngrams", "tokens") else np.float32
        ),
        targets=targets,
        mask=np.ones(shape[0], np.float32),
    )
    slots = np.zeros(data.way, np.int32)
    return Episode(side, side, np.int32(0), np.int32(0), slots)


def source(
    table: Table | Functions,
    shape: draw.Shape,
    split: str,
    seed: int,
    loader: str,
) -> sources.Source:
    """Makes the episode source named by `data.loader`."""
    if isinstance(table, Functions):
        make = functions.host if loader == "tfdata" else functions.device
        return make(table, shape, split, seed)
    if loader == "tfdata":
        from htmaml_jax.data import tfdata

        return tfdata.tfdata(table, shape, split, seed)
    return sources.device(table, shape, split, seed)
