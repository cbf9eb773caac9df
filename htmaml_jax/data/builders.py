"""TFDS builders of ESC-50 and ESC-10 from their original sound files.

Both are Piczak, "ESC: Dataset for Environmental Sound Classification", ACM
MM 2015. Waveforms are decoded once, stored without loss, and turned into
pictures by `data/audio.py`. Importing this module imports TFDS.
"""

from __future__ import annotations

import functools
import io
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds

from htmaml_jax.data import archives, audio, cache, esc_tree
from htmaml_jax.data.esc import CLASSES, FAMILIES
from htmaml_jax.data.table import Table, split_classes
from htmaml_jax.errors import UserError

_CITATION = """@inproceedings{piczak2015dataset,
  title = {{ESC}: {Dataset} for {Environmental Sound Classification}},
  author = {Piczak, Karol J.},
  booktitle = {Proceedings of the 23rd ACM Conference on Multimedia},
  year = {2015}, pages = {1015--1018}}"""


class _Esc(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the two builders share.

    Args:
      download: fetches `URL` where the manual folder has no clips.
      **kwargs: those of any TFDS builder.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the archive, or what it extracts to, into the manual folder."
    )
    # What TFDS 4.9 would work out by itself, were importlib_resources, which
    # it imports and does not require, always installed.
    code_path = pathlib.Path(__file__)

    CLASSES: tuple[str, ...]
    LICENCE: str
    TREE: str
    TITLE: str
    URL: str

    def __init__(self, *, download: bool = False, **kwargs):
        self._may_download = download
        super().__init__(**kwargs)

    @staticmethod
    def find(
        files: archives.Files, where: str, tree: str
    ) -> list[esc_tree.Clip] | None:
        """Lists the clips in some files; None where there are none."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        wave = tfds.features.Tensor(
            shape=(None,),
            dtype=np.float32,
            encoding=tfds.features.Encoding.ZLIB,
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.TITLE}: environmental sounds, 5 s each.",
            features=tfds.features.FeaturesDict(
                {
                    "audio": wave,
                    "rate": np.int32,
                    "label": tfds.features.ClassLabel(names=self.CLASSES),
                    "recording": tfds.features.Text(),
                    "fold": np.int32,
                    "filename": tfds.features.Text(),
                }
            ),
            citation=_CITATION,
            homepage="https://github.com/karolpiczak/ESC-50",
            license=self.LICENCE,
            metadata=tfds.core.MetadataDict(),
        )

    def manual_clips(self, folder: pathlib.Path) -> list[esc_tree.Clip] | None:
        """Lists the clips in a manual folder; None where there are none."""
        if not folder.is_dir():
            return None
        return self.find(archives.folder_files(folder), str(folder), self.TREE)

    def _split_generators(self, dl_manager):
        try:
            folder = pathlib.Path(dl_manager.manual_dir)
        except AssertionError:  # TFDS for: not there, or empty
            folder = pathlib.Path(dl_manager.download_dir) / "manual"
        clips = self.manual_clips(folder)
        if clips is None and self._may_download:
            clips = self.find(self._download(dl_manager), self.URL, self.TREE)
        if not clips:
            raise UserError(
                f"{folder}: no {self.TITLE} here; expected {self.TREE}, or "
                f"the archive {self.URL}; put it there or allow the download."
            )
        unknown = sorted({c.label for c in clips} - set(self.CLASSES))
        if unknown:
            raise UserError(
                f"{folder}: {unknown[0]!r} is no class of {self.TITLE}; "
                "extract the original archive again."
            )
        self.info.metadata["source"] = esc_tree.digest(clips)
        return {"clips": self._generate_examples(clips)}

    def _download(self, dl_manager) -> archives.Files:
        try:
            path = dl_manager.download(self.URL)
        except (OSError, tfds.download.DownloadError) as error:
            raise UserError(
                f"{self.URL}: cannot be downloaded ({error}); fetch it by "
                "hand and put it into the manual folder."
            ) from error
        return archives.zip_files(pathlib.Path(path))

    def _generate_examples(self, clips) -> Iterator[tuple[str, dict]]:
        for clip in clips:
            data = io.BytesIO(clip.file.read())
            wave, rate = audio.decode(data, clip.filename)
            yield (
                f"{clip.label}/{clip.filename}",
                {
                    "audio": wave,
                    "rate": rate,
                    "label": clip.label,
                    "recording": clip.recording,
                    "fold": clip.fold,
                    "filename": clip.filename,
                },
            )


class Esc50(_Esc, skip_registration=True):
    """ESC-50: 2000 clips of 50 environmental sounds, 44.1 kHz WAV."""

    CLASSES = CLASSES
    LICENCE = "CC BY-NC 3.0"
    TITLE = "ESC-50"
    TREE = "ESC-50-master/meta/esc50.csv and ESC-50-master/audio/*.wav"
    URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
    find = staticmethod(esc_tree.esc50_clips)


class Esc10(_Esc, skip_registration=True):
    """ESC-10: 400 clips of ten environmental sounds, under ESC-50's names."""

    CLASSES = tuple(CLASSES[target] for target in esc_tree.TARGETS.values())
    LICENCE = "CC BY 3.0"
    TITLE = "ESC-10"
    TREE = "'001 - Dog bark/1-100032-A.ogg' and so on, 10 folders of 40"
    # The last commit that holds the sounds.
    URL = (
        "https://github.com/karolpiczak/ESC-10/archive/"
        "553c8f1743b9dba6b282e1323c3ca8fa76923448.zip"
    )
    find = staticmethod(esc_tree.esc10_clips)


def table_from_builder(
    builder: tfds.core.DatasetBuilder,
    front: audio.FrontEnd,
    splits: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """Reads a prepared ESC set into a table, features cached on disk.

    Args:
      builder: a prepared `Esc50` or `Esc10`.
      front: the audio settings.
      splits: split name -> class names; by default `split_classes`.

    Raises:
      UserError: a split names a class that has no clip.
    """
    folder = pathlib.Path(builder.data_path)
    prepared = [path for path in sorted(folder.iterdir()) if path.is_file()]
    key = {
        "kind": "tfds",
        "name": builder.info.full_name,
        "front": front.asdict(),
        "files": cache.stamps(prepared),
    }
    found = cache.cached(key, functools.partial(_read, builder, front))
    present = {builder.CLASSES[label] for label in found["labels"]}
    classes = tuple(sorted(present))
    for split, names in (splits or {}).items():
        for name in names:
            if name not in present:
                raise UserError(
                    f"split {split}: class {name} has no clip in "
                    f"{builder.info.full_name}; choose another split."
                )
    position = {name: i for i, name in enumerate(classes)}
    labels = [position[builder.CLASSES[label]] for label in found["labels"]]
    _, recordings = np.unique(found["recordings"], return_inverse=True)
    return Table(
        name=builder.name,
        origin=str(folder),
        inputs=found["inputs"],
        labels=np.array(labels, np.int32),
        recordings=recordings.astype(np.int32),
        classes=classes,
        families=tuple(FAMILIES[CLASSES.index(name)] for name in classes),
        splits=dict(splits) if splits else split_classes(classes),
        licence=builder.LICENCE,
        front_end=front.asdict(),
    )


def _read(builder, front: audio.FrontEnd) -> dict[str, np.ndarray]:
    import tensorflow as tf

    try:
        # TensorFlow would take the memory of the GPU that JAX computes on.
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        pass  # TensorFlow runs already, with what its user gave it.
    data = builder.as_dataset(split="clips", shuffle_files=False)
    size = builder.info.splits["clips"].num_examples
    rows = []
    for item in cache.show_progress(tfds.as_numpy(data), total=size):
        wave = audio.resample(item["audio"], int(item["rate"]), front)
        label = int(item["label"])
        file, recording = (
            item[name].decode() for name in ("filename", "recording")
        )
        rows.append((label, file, recording, audio.picture(wave, front)))
    # TFDS stores examples in the order of a hash; file names read better.
    rows.sort(key=lambda row: row[:2])
    labels, _, recordings, inputs = zip(*rows, strict=True)
    return {
        "inputs": np.stack(inputs),
        "labels": np.array(labels, np.int32),
        "recordings": np.array(recordings),
    }


def load_esc(
    which: str,
    front: audio.FrontEnd,
    splits: Mapping[str, tuple[str, ...]] | None = None,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Table:
    """Prepares ESC-50 or ESC-10 where needed, and reads it into a table.

    Args:
      which: "esc50" or "esc10".
      front: the audio settings.
      splits: split name -> class names; by default `split_classes`.
      data_dir: where prepared sets live; by default `cache_dir()/tfds`.
      manual_dir: folder with the archive or what it extracts to.
      download: allows fetching the archive where manual_dir has no clips.

    Raises:
      UserError: the data is missing, incomplete or damaged.
    """
    kinds = {"esc50": Esc50, "esc10": Esc10}
    if which not in kinds:
        raise UserError(f"no data set {which!r}; choose esc50 or esc10.")
    if manual_dir is not None and not os.path.isdir(manual_dir):
        raise UserError(
            f"{manual_dir}: no such folder; give the folder that holds "
            f"{kinds[which].TREE} or the archive."
        )
    home = pathlib.Path(data_dir or cache.cache_dir() / "tfds").expanduser()
    builder = kinds[which](data_dir=str(home), download=download)
    if builder.is_prepared():
        source = (builder.info.metadata or {}).get("source")
        clips = manual_dir and builder.manual_clips(pathlib.Path(manual_dir))
        if clips and esc_tree.digest(clips) != source:
            raise UserError(
                f"{builder.data_path}: was prepared from other files than "
                f"{manual_dir} holds; remove it or give another data_dir."
            )
    else:
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        manual = manual_dir or home / "downloads" / "manual"
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual)
        )
    return table_from_builder(builder, front, splits)
