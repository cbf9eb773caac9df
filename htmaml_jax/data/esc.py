"""ESC-50: class splits, and the reader of the ready log-mel pack.

ESC-50 is Piczak, ACM MM 2015 (CC BY-NC 3.0). The pack holds 1600 of its 2000
clips as gray pictures of their log-mel spectrograms.
"""

from __future__ import annotations

import csv
import io
import pathlib
import zipfile
import zlib

import numpy as np

from htmaml_jax.data.audio import FrontEnd, layers
from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

_NAMES = """
dog rooster pig cow frog cat hen insects sheep crow rain sea_waves
crackling_fire crickets chirping_birds water_drops wind pouring_water
toilet_flush thunderstorm crying_baby sneezing clapping breathing coughing
footsteps laughing brushing_teeth snoring drinking_sipping door_wood_knock
mouse_click keyboard_typing door_wood_creaks can_opening washing_machine
vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter chainsaw siren
car_horn engine train church_bells airplane fireworks hand_saw
"""
CLASSES = tuple(_NAMES.split())  # in the order of ESC-50's target numbers
# ESC-50's own five, of ten classes each.
_FAMILIES = ("animals", "nature", "humans", "indoors", "outdoors")
FAMILIES = tuple(_FAMILIES[i // 10] for i in range(len(CLASSES)))


def _split(
    validation: str, test: str, neither: str = ""
) -> dict[str, tuple[str, ...]]:
    """Makes a split; what is in none of the arguments is for training."""
    held = {"validation": tuple(validation.split())}
    held["test"] = tuple(test.split())
    out = {*held["validation"], *held["test"], *neither.split()}
    return {"train": tuple(c for c in CLASSES if c not in out), **held}


SPLITS = {
    # Tests on animals alone: the ten Animals classes and two more.
    "animals": _split(
        "crying_baby sneezing clapping breathing coughing footsteps",
        "dog rooster pig cow frog cat hen insects sheep crow crickets "
        "chirping_birds",
    ),
    # 35/5/10 of MetaAudio, Heggan et al., ICANN 2022 (arXiv 2204.02121).
    "metaaudio": _split(
        "crackling_fire clock_alarm coughing hen breathing",
        "vacuum_cleaner sneezing thunderstorm crow glass_breaking "
        "church_bells cow dog airplane engine",
    ),
    # The same tests, but ten training classes are for validation, too: what
    # five say of a choice is little more than chance.
    "development": _split(
        "rain sea_waves car_horn hand_saw toilet_flush train frog "
        "drinking_sipping rooster crying_baby crackling_fire clock_alarm "
        "coughing hen breathing",
        "vacuum_cleaner sneezing thunderstorm crow glass_breaking "
        "church_bells cow dog airplane engine",
    ),
    # Tests on the ten classes of ESC-10, which has waveforms of them. The
    # other two share a recording with one of them each.
    "esc10": _split(
        "cat cow breathing coughing mouse_click engine",
        "dog rain sea_waves crying_baby clock_tick sneezing helicopter "
        "chainsaw rooster crackling_fire",
        "hen clock_alarm",
    ),
}
# The classes of "metaaudio" are as published: clock_tick (training) and
# clock_alarm (validation) share a recording, and so do rooster and hen.
PACK = "esc50_logmel_png"
_SECONDS = 5.0  # of its pictures
_TREE = f"{PACK}/meta.csv and {PACK}/esc50_logmel_gray.zip"


def splits_named(name: str) -> dict[str, tuple[str, ...]]:
    """Returns the class split of a name."""
    if name not in SPLITS:
        raise UserError(
            f"data.split {name!r} is unknown; ESC-50 has "
            f"{', '.join(sorted(SPLITS))}."
        )
    return SPLITS[name]


def _read_meta(path: pathlib.Path) -> list[dict[str, str]]:
    """Reads the list of pictures, or says which line cannot be used."""
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    wanted = ("filename", "target", "src_file")
    for number, row in enumerate(rows, 2):
        target = row.get("target") or ""
        whole = all(row.get(name) for name in wanted)
        if not whole or target not in map(str, range(len(CLASSES))):
            raise UserError(
                f"{path} line {number} lacks {', '.join(wanted)}, or its "
                "target is not 0 to 49; copy the file again."
            )
    if not rows:
        raise UserError(f"{path} lists no picture; copy the file again.")
    return rows


def read_pack(folder: pathlib.Path, front: FrontEnd, split: str) -> Table:
    """Reads the log-mel pack at a folder named `esc50_logmel_png`.

    The pack's own front end (44.1 kHz, 2048-point window, 128 mels) is fixed;
    of `front` only `rows`, `columns` and `channels` matter.
    """
    from PIL import Image

    meta, archive = folder / "meta.csv", folder / "esc50_logmel_gray.zip"
    for path in (meta, archive):
        if not path.is_file():
            raise UserError(
                f"{path} is missing: the ESC-50 pack consists of {_TREE}; "
                "extract or copy it again."
            )
    rows = _read_meta(meta)
    if front.level != "log":
        raise UserError(
            f"data.level={front.level}: the pack holds decibels; set "
            "data.level=log, or give the sound files themselves."
        )
    if front.seconds != _SECONDS:
        raise UserError(
            f"data.seconds={front.seconds}: the pack holds pictures of "
            f"{_SECONDS} seconds; set that, or give the sound files themselves."
        )
    size = (front.rows, front.columns, front.channels)
    inputs = np.empty((len(rows), *size), np.float32)
    try:
        with zipfile.ZipFile(archive) as pack:
            members = {pathlib.PurePath(n).name: n for n in pack.namelist()}
            lost = [r for r in rows if r["filename"] not in members]
            if lost:
                raise UserError(
                    f"{archive} lacks {len(lost)} of {len(rows)} pictures, "
                    f"first {lost[0]['filename']}; copy the archive again."
                )
            for i, row in enumerate(rows):
                picture = pack.read(members[row["filename"]])
                gray = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
                # The picture's top row is the highest frequency.
                spec = gray[::-1].astype(np.float32) / 255
                inputs[i] = layers(spec, front)
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise UserError(
            f"{archive} is damaged ({error}); copy the archive again."
        ) from error
    labels = np.array([int(r["target"]) for r in rows], np.int32)
    sources = [r["src_file"] for r in rows]
    _, recordings = np.unique(sources, return_inverse=True)
    return Table(
        name="esc50-pack",
        origin=str(folder),
        inputs=inputs,
        labels=labels,
        recordings=recordings.astype(np.int32),
        classes=CLASSES,
        families=FAMILIES,
        splits=splits_named(split),
        licence="CC BY-NC 3.0",
        front_end={
            "pack": PACK,
            **dict(zip(("rows", "columns", "channels"), size, strict=True)),
        },
    )
