"""Slices of brain structures, drawn with random contrast.

A picture is cut from a map of anatomical labels, around the place where a
structure lies in an axial slice; its class is that structure. Intensities are
drawn anew for each picture, structure by structure, after the recipe of
SynthSeg (Billot et al., Medical Image Analysis, 2023): a normal distribution
for each label, blur, a smooth bias field, a random gamma. So brightness says
nothing about a class; shapes and neighbours do. The maps are SynthSeg's 20
training maps (Apache 2.0), at 2 mm. Splits share neither structures nor
subjects, though a structure's neighbours may belong to another split.
"""

from __future__ import annotations

import pathlib
import re

import numpy as np
import scipy.ndimage

from htmaml_jax.data import cache, nifti
from htmaml_jax.data.archives import folder_files, matching
from htmaml_jax.data.audio import FrontEnd, shrink
from htmaml_jax.data.table import Table
from htmaml_jax.errors import UserError

FOLDER = "med3d_synthseg_labelmaps"
MARKS = ("training_label_maps_2mm.zip", "training_label_maps", "labels")
EXPECTED = (
    "training_seg_01.nii.gz to training_seg_20.nii.gz, or an archive of them, "
    "of https://github.com/BBillot/SynthSeg/tree/master/data"
)
# FreeSurfer's numbers. Left and right stay together: they are mirror images.
_STRUCTURES = {
    "train": """2 left-white-matter 41 right-white-matter 3 left-cortex
        42 right-cortex 4 left-ventricle 43 right-ventricle
        7 left-cerebellum-white 46 right-cerebellum-white 10 left-thalamus
        49 right-thalamus 11 left-caudate 50 right-caudate 14 third-ventricle
        24 csf""",
    "validation": """5 left-inferior-ventricle 44 right-inferior-ventricle
        8 left-cerebellum 47 right-cerebellum 26 left-accumbens
        58 right-accumbens""",
    "test": """12 left-putamen 51 right-putamen 13 left-pallidum
        52 right-pallidum 17 left-hippocampus 53 right-hippocampus
        18 left-amygdala 54 right-amygdala 28 left-ventral-dc
        60 right-ventral-dc 15 fourth-ventricle 16 brain-stem""",
}
SPLITS = {k: tuple(v.split()[1::2]) for k, v in _STRUCTURES.items()}
_NUMBERS = {
    name: int(number)
    for text in _STRUCTURES.values()
    for number, name in zip(text.split()[::2], text.split()[1::2], strict=True)
}
# Subjects of each split, by number.
_SUBJECTS = {
    "train": range(1, 8),
    "validation": range(8, 14),
    "test": range(14, 21),
}
_FILE = re.compile(r"(?:^|/)training_seg_(\d+)\.nii\.gz$")
_EACH = 6  # pictures of a structure in a subject
_SIDE = 40  # voxels of 2 mm
_STEP = 2.0  # mm


def read(folder: pathlib.Path, front: FrontEnd) -> Table:
    """Reads a folder; of `front` only the size of pictures matters.

    Pictures of a structure in one subject count as one recording.
    """
    if front.channels != 1:
        raise UserError("brain slices are gray: set data.channels=1.")
    files = folder_files(folder)
    found = matching(files, _FILE)
    if not found:
        raise UserError(f"{folder} holds no label maps; expected {EXPECTED}.")
    classes = tuple(sorted(_NUMBERS))
    inputs, labels, recordings = [], [], []
    for number, name in cache.show_progress(found):
        subject = int(number)
        volume = _volume(files[name].read(), name)
        wanted = {
            structure
            for split, names in SPLITS.items()
            for structure in names
            if subject in _SUBJECTS[split]
        }
        for label, structure in enumerate(classes):
            if structure not in wanted:
                continue
            rng = np.random.default_rng([subject, label])
            for cut in _cuts(volume, _NUMBERS[structure], rng):
                small = shrink(paint(cut, rng), front.rows, front.columns)
                inputs.append(np.rint(255 * np.clip(small, 0, 1)))
                labels.append(label)
                recordings.append(subject * len(classes) + label)
    if not inputs:
        raise UserError(
            f"{folder}: the label maps show none of the structures of their "
            f"split; expected {EXPECTED}."
        )
    return Table(
        name="brains",
        origin=str(folder),
        inputs=np.stack(inputs)[..., None].astype(np.uint8),
        labels=np.array(labels, np.int32),
        recordings=np.array(recordings, np.int32),
        classes=classes,
        splits=SPLITS,
        licence="Apache 2.0",
        front_end={
            "rows": front.rows,
            "columns": front.columns,
            "mm": _SIDE * _STEP,
        },
    )


def _volume(data: bytes, name: str) -> np.ndarray:
    """Decodes a label map to [X, Y, Z] at 2 mm, axes right, front, up."""
    volume = nifti.canonical(nifti.read(data, name))
    sizes = nifti.spacing_of(volume.affine)
    steps = tuple(slice(None, None, max(1, round(_STEP / s))) for s in sizes)
    return volume.data.astype(np.int32)[steps]


def _cuts(volume: np.ndarray, number: int, rng: np.random.Generator):
    """Yields squares [_SIDE, _SIDE] of axial slices around a structure.

    Slices are drawn from those that hold at least half as much of it as the
    one that holds most; a structure that is not there yields none.
    """
    areas = (volume == number).sum((0, 1))
    if not areas.any():
        return
    good = np.flatnonzero(areas >= areas.max() / 2)
    half = _SIDE // 2
    for z in rng.choice(good, _EACH):
        centre = np.argwhere(volume[:, :, z] == number).mean(0)
        centre = np.rint(centre + rng.uniform(-2, 2, 2)).astype(int)
        padded = np.pad(volume[:, :, z], half)
        x, y = centre
        # Rows from front to back, columns from left to right.
        yield padded[x : x + _SIDE, y : y + _SIDE].T[::-1]


def paint(cut: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a picture [H, W] float32 in [0, 1] of a label map [H, W]."""
    numbers, place = np.unique(cut, return_inverse=True)
    means = rng.uniform(0.0, 1.0, len(numbers))
    spreads = rng.uniform(0.0, 0.1, len(numbers))
    place = place.reshape(cut.shape)
    picture = means[place] + spreads[place] * rng.normal(size=cut.shape)
    picture = scipy.ndimage.gaussian_filter(picture, rng.uniform(0.0, 1.0))
    bias = scipy.ndimage.zoom(
        rng.normal(0, 0.3, (4, 4)), np.array(cut.shape) / 4, order=1
    )
    picture = picture * np.exp(bias)
    picture = picture - picture.min()
    picture = picture / max(picture.max(), 1e-6)
    return (picture ** np.exp(rng.normal(0, 0.3))).astype(np.float32)
