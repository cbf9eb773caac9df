"""TFDS builders of volumes with masks, from a folder that is given by path.

    from htmaml_jax.data import volume_builders

    tfds.load("decathlon", builder_kwargs={"folder": "Task09_Spleen"})
    tfds.load("totalsegmentator", builder_kwargs={"folder": "Totalseg"})
    tfds.load("acdc", builder_kwargs={"folder": "ACDC/database"})

Volumes are stored on their own grids, as numbers of 32 bits. Once prepared they
load by name alone, where this package is not installed, too. What lies where
in a folder is for `data.organs`. Importing this module imports TFDS.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from htmaml_jax import config
from htmaml_jax.data import archives, organs, volumes
from htmaml_jax.errors import UserError

SPLIT = "volumes"


class _Volumes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the builders share: one split, an example for each volume.

    Its metadata tell the structures by label, which of them and which
    subjects a model is trained and tested on, and the unit of the affines.

    Args:
      folder: the tree, or archives of it.
      **kwargs: those of any TFDS builder.

    Raises:
      UserError: the folder is none of this kind, or what is prepared was
        made of another one.
    """

    VERSION = tfds.core.Version("1.0.0")
    # See `builders`.
    code_path = pathlib.Path(__file__)

    CITATION: str
    HOMEPAGE: str

    def __init__(self, *, folder: str | pathlib.Path, **kwargs):
        root = pathlib.Path(folder).expanduser()
        if not root.is_dir():
            raise UserError(
                f"{root}: no such folder; expected "
                f"{organs.EXPECTED[self.name]}."
            )
        self._files = archives.folder_files(root)
        self._cases, self._plan = organs.find(
            self.name, self._files, root, config.default().data
        )
        super().__init__(**self._settings(), **kwargs)
        source = (self.info.metadata or {}).get("source")
        if self.is_prepared() and source != self._source():
            raise UserError(
                f"{self.data_path}: was prepared from other files than {root} "
                "holds, or from older ones; remove it or give another data_dir."
            )

    def _settings(self):
        return {}

    def _source(self):
        held = [
            (case.name, case.subject, case.image, case.masks)
            for case in self._cases
        ]
        paths = sorted({p for _, _, image, of in held for p in (image, *of)})
        stamps = archives.stamps(self._files, paths)
        text = json.dumps([held, stamps, self._metadata()])
        return hashlib.sha256(text.encode()).hexdigest()

    def _metadata(self):
        plan = self._plan
        return {
            "structures": {str(k): v for k, v in plan.structures.items()},
            "splits": {k: list(v) for k, v in plan.splits.items()},
            "subjects": dict(plan.held or {}),
            "unit": plan.unit,
        }

    def _info(self) -> tfds.core.DatasetInfo:
        plan = self._plan

        def numbers(shape, kind):
            how = tfds.features.Encoding.ZLIB
            return tfds.features.Tensor(shape=shape, dtype=kind, encoding=how)

        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{plan.name}: volumes, and masks of structures.",
            features=tfds.features.FeaturesDict(
                {
                    "image": numbers((None,) * 3, np.float32),
                    "mask": numbers((None,) * 3, np.int32),
                    # From voxels to axes right, front, up.
                    "affine": numbers((4, 4), np.float64),
                    "name": tfds.features.Text(),
                    "subject": tfds.features.Text(),
                }
            ),
            citation=self.CITATION,
            homepage=self.HOMEPAGE,
            license=plan.licence,
            metadata=tfds.core.MetadataDict(
                **self._metadata(), source=self._source()
            ),
        )

    def _split_generators(self, dl_manager):
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        for case in self._cases:
            _, image, mask = volumes.read_case(self._files, case, self._plan)
            yield (
                case.name,
                {
                    "image": image.data.astype(np.float32),
                    "mask": mask.data,
                    "affine": image.affine,
                    "name": case.name,
                    "subject": case.subject,
                },
            )


class Decathlon(_Volumes):
    """A task of the Medical Segmentation Decathlon, or a folder of its form.

    Each is a configuration, called as its dataset.json says.
    """

    CITATION = """@article{antonelli2022medical,
  title = {The {Medical Segmentation Decathlon}},
  author = {Antonelli, Michela and others},
  journal = {Nature Communications}, volume = {13}, year = {2022}}"""
    HOMEPAGE = "http://medicaldecathlon.com"

    def _settings(self):
        name = re.sub(r"[^a-z0-9]+", "-", self._plan.name).strip("-")
        return {"config": tfds.core.BuilderConfig(name=name or "volumes")}


class Totalsegmentator(Decathlon):
    """A folder of TotalSegmentator's form: a mask for each structure.

    Each is a configuration, called as the folder.
    """

    CITATION = """@article{wasserthal2023totalsegmentator,
  title = {{TotalSegmentator}: Robust Segmentation of 104 Anatomic Structures
    in {CT} Images},
  author = {Wasserthal, Jakob and others},
  journal = {Radiology: Artificial Intelligence}, volume = {5},
  year = {2023}}"""
    HOMEPAGE = "https://github.com/wasserth/TotalSegmentator"


class Acdc(_Volumes):
    """ACDC: cine MR of the heart, 100 patients at two phases."""

    CITATION = """@article{bernard2018deep,
  title = {Deep Learning Techniques for Automatic {MRI} Cardiac
    Multi-Structures Segmentation and Diagnosis: Is the Problem Solved?},
  author = {Bernard, Olivier and others},
  journal = {IEEE Transactions on Medical Imaging}, volume = {37},
  year = {2018}}"""
    HOMEPAGE = "https://www.creatis.insa-lyon.fr/Challenge/acdc"
