"""Volumes and configs so small that whole runs fit in a test."""

from __future__ import annotations

import json
import pathlib

import jax
import jax.numpy as jnp
import nibabel
import numpy as np

from htmaml_jax import cli, config
from htmaml_jax.episode import Batch

FIELDS = {
    "data.name": "decathlon",
    "data.side": 8,
    "data.spacing": 2.0,
    "data.query": 1,
    "data.domains": 1,
    "eval.query": 2,
    "eval.episodes": 12,
    "net.width": 8,
    "net.blocks": 1,
    "embed.width": 8,
    "embed.dim": 8,
    "hyper.dim": 8,
    "hyper.layers": 1,
    "inner.steps": 1,
    "train.steps": 2,
    "train.tasks": 2,
    "train.val_episodes": 4,
}
STRUCTURES = {1: "Top Half", 2: "Ball", 3: "Rod", 4: "Plate"}


def config_of(system: str, **fields):
    """Returns configs/seg3d.py, made small."""
    argument = ",".join(
        f"{name}={value}"
        for name, value in (FIELDS | {"system": system} | fields).items()
    )
    return cli.read_config(f"configs/seg3d.py:{argument}", [])[0]


def batch_of(masks) -> Batch:
    """Returns random images with these masks [n, D, H, W]."""
    masks = jnp.asarray(masks, jnp.int32)
    shape = (*masks.shape, 1)
    inputs = jax.random.normal(jax.random.key(1), shape)
    return Batch(inputs, masks, jnp.ones(len(masks)))


def settings(name: str, folder: pathlib.Path, **fields):
    """Returns the group `data` of a config for a folder."""
    data = config.default().data
    data.update({"name": name, "dir": str(folder), "side": 8, **fields})
    return data


def write(path: pathlib.Path, data, affine=None) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def scan(seed: int, size: int = 12, structures: int = len(STRUCTURES)):
    """Draws an image of blocks, brighter than what is around, and its mask.

    Four are one behind the other; of more (8 or 12) there are several rows.
    """
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size, size), np.uint8)
    middle = slice(size // 2 - 3, size // 2 + 3)
    wide = 6 * 4 // structures
    for number in range(1, structures + 1):
        row, place = divmod(number - 1, 4)
        at, side = size // 2 - 4 + 2 * place, size // 2 - 3 + wide * row
        mask[at : at + 2, side : side + wide, middle] = number
    image = 40.0 * mask + rng.normal(0, 3, mask.shape)
    return image.astype(np.float32), mask


def decathlon(
    root: pathlib.Path, count: int = 24, structures: int = len(STRUCTURES)
) -> pathlib.Path:
    """Writes a folder of the Decathlon's form."""
    for i in range(count):
        image, mask = scan(i, structures=structures)
        write(root / f"imagesTr/case_{i:02}.nii.gz", image)
        write(root / f"labelsTr/case_{i:02}.nii.gz", mask)
    labels = {"0": "background"} | {
        str(k): STRUCTURES.get(k, f"Block {k}")
        for k in range(1, structures + 1)
    }
    about = {"name": "Blocks", "labels": labels, "modality": {"0": "MRI"}}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def twelve(root: pathlib.Path, count: int = 24) -> pathlib.Path:
    """Writes a folder of that form whose four blocks are three parts each."""
    for i in range(count):
        image, mask = scan(i)
        third = (np.arange(12) - 3) // 2
        mask += np.where(mask > 0, 4 * third[:, None], 0).astype(np.uint8)
        write(root / f"imagesTr/{i}.nii.gz", image)
        write(root / f"labelsTr/{i}.nii.gz", mask)
    labels = {str(i): f"part {i}" for i in range(13)}
    about = {"name": "Parts", "labels": labels}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def arguments(
    data: pathlib.Path, workdir: pathlib.Path, **fields: object
) -> list[str]:
    """Returns the command line of `train` on such a folder."""
    merged = FIELDS | {"data.dir": data} | fields
    config = pathlib.Path(__file__).parent.parent / "configs/seg3d.py"
    return [
        f"--config={config}",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in merged.items()),
    ]


def apart(size: int = 60):
    """Draws four small bright blocks in the corners of a volume."""
    image, mask = np.zeros((2, size, size, size), np.float32)
    for number, at in enumerate((4, size - 10), start=1):
        mask[at : at + 5, 4:9, 4:9] = number
        mask[at : at + 5, 50:55, 50:55] = number + 2
    rng = np.random.default_rng(0)
    return 50 * mask + rng.normal(0, 3, image.shape), mask.astype(np.uint8)


def totalseg(
    root: pathlib.Path, count: int = 12, kind: str = "ct"
) -> pathlib.Path:
    """Writes a folder of TotalSegmentator's form."""
    names = ("liver", "spleen", "colon", "aorta")
    for i in range(count):
        image, mask = apart()
        home = root / f"s{i:04}"
        write(home / f"{kind}.nii.gz", image.astype(np.float32))
        for number, name in enumerate(names, start=1):
            if (i, name) != (0, "aorta"):  # not every volume shows all
                part = (mask == number).astype(np.uint8)
                path = home / "segmentations" / f"{name}.nii.gz"
                write(path, part)
    return root
