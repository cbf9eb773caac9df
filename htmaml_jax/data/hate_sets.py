"""The published sets of hate speech, as texts and whether they are hateful.

Schemes differ; each becomes hateful or offensive, and neither:

  en  Davidson et al. (2017): hate speech, offensive language | neither.
      de Gibert et al. (2018): hate | noHate; relation and skipped left out.
  en fr ar  Ousidhoum et al. (2019): as its authors do, posts labelled normal
      and nothing else are neither, all others are hateful.
  de  GermEval 2018: OFFENSE | OTHER.
  pt  HateBR (2022): offensive | not. ToLD-Br (2020): a kind of toxicity that
      two of three annotators saw | none that any saw; the rest is left out.
  zh  COLD (2022): offensive | safe, attacks on prejudice among it.
  id  Ibrohim and Budi (2019): hate speech or abusive | neither.
  mr  MahaHate (2022): hate, offensive, profane | not. mr hi  HateEval (2022):
      hateful | none.
  hatecheck-ar -de -es -fr -hi -it -nl -pl -pt -zh  Multilingual HateCheck
      (2022): hateful | non-hateful. Profanity that is aimed at nobody counts
      as non-hateful there and as offensive elsewhere.
"""

from __future__ import annotations

import csv
import io
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator

from htmaml_jax.data.texts import read_text, table_rows
from htmaml_jax.errors import UserError

HATECHECK = "hatecheck-"
EXPECTED = (
    "en_davidson/, en_stormfront/, enfrar_mlma/, de_germeval2018/, "
    "pt_toldbr/, pt_hatebr/, id_okky/, mr_mahahate/, himr_hateeval/, zh_cold/ "
    "and multilingual_hatecheck/, each a repository as its authors keep it"
)
# A text and whether it is hateful; None for what is left out.
Rows = Iterator[tuple[str, bool | None]]


def _table(folder: pathlib.Path, path: str) -> list[dict]:
    return table_rows(read_text(folder / path), folder / path)


def _zipped(folder: pathlib.Path, path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(folder / path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{folder / path} cannot be read ({error}); expected {EXPECTED}."
        ) from error


def _of(row: dict, key: str, told: dict[str, bool | None]) -> bool | None:
    if row.get(key) not in told:
        raise UserError(
            f"an entry's {key} is {row.get(key)!r}, not one of "
            f"{', '.join(told)}; copy the hate speech data again."
        )
    return told[row[key]]


def _davidson(folder: pathlib.Path) -> Rows:
    told = {"0": True, "1": True, "2": False}
    for row in _table(folder, "en_davidson/data/labeled_data.csv"):
        yield row["tweet"], _of(row, "class", told)


def _stormfront(folder: pathlib.Path) -> Rows:
    told = {"hate": True, "noHate": False, "relation": None, "idk/skip": None}
    with _zipped(folder, "en_stormfront/all_files.zip") as files:
        for row in _table(folder, "en_stormfront/annotations_metadata.csv"):
            raw = files.read(f"all_files/{row['file_id']}.txt")
            yield raw.decode("utf-8", "replace"), _of(row, "label", told)


def _mlma(folder: pathlib.Path, language: str) -> Rows:
    with _zipped(folder, "enfrar_mlma/hate_speech_mlma.zip") as files:
        raw = files.read(f"hate_speech_mlma/{language}_dataset.csv")
    text = io.StringIO(raw.decode("utf-8-sig", "replace"), newline="")
    for row in csv.DictReader(text):
        yield row["tweet"], row["sentiment"] != "normal"


def _germeval(folder: pathlib.Path) -> Rows:
    told = {"OFFENSE": True, "OTHER": False}
    for part in ("training", "test"):
        path = folder / f"de_germeval2018/germeval2018.{part}.txt"
        for line in filter(None, read_text(path).split("\n")):
            text, coarse, *_ = line.split("\t")
            text = text.replace("|LBR|", " ")
            yield text, _of({"label": coarse}, "label", told)


def _hatebr(folder: pathlib.Path) -> Rows:
    told = {"1": True, "0": False}
    for row in _table(folder, "pt_hatebr/dataset/HateBR.csv"):
        yield row["comentario"], _of(row, "label_final", told)


def _toldbr(folder: pathlib.Path) -> Rows:
    told = {0: False, 1: None, 2: True, 3: True}
    for row in _table(folder, "pt_toldbr/ToLD-BR.csv"):
        text = row.pop("text")
        yield text, told[int(max(map(float, row.values())))]


def _okky(folder: pathlib.Path) -> Rows:
    path = folder / "id_okky/re_dataset.csv"
    try:
        raw = path.read_bytes().decode("latin-1")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected {EXPECTED}."
        ) from error

    def characters(found):
        octets = bytes.fromhex(found[0].replace(r"\x", ""))
        return octets.decode("utf-8", "replace")

    for row in table_rows(raw, path):
        # What is not ASCII is written out, as \xf0\x9f and \n.
        text = re.sub(r"(?:\\x[0-9a-f]{2})+", characters, row["Tweet"])
        yield text.replace(r"\n", " "), "1" in (row["HS"], row["Abusive"])


def _mahahate(folder: pathlib.Path) -> Rows:
    import openpyxl

    told = {"HATE": True, "OFFN": True, "PRFN": True, "NOT": False}
    for part in ("train", "valid", "test"):
        path = folder / f"mr_mahahate/L3Cube-MahaHate/4-class/hate_{part}.xlsx"
        try:
            book = openpyxl.load_workbook(path, read_only=True)
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise UserError(
                f"{path} cannot be read ({error}); expected {EXPECTED}."
            ) from error
        rows = book.active.iter_rows(min_row=2, max_col=2, values_only=True)
        for text, label in rows:
            yield str(text), _of({"label": label}, "label", told)
        book.close()


def _hateeval(folder: pathlib.Path, language: str) -> Rows:
    told = {"1": True, "0": False}
    path = f"himr_hateeval/HateEval/HateEval-{language}.csv"
    for row in _table(folder, path):
        yield row["tweet"], _of(row, "label", told)


def _cold(folder: pathlib.Path) -> Rows:
    told = {"1": True, "0": False}
    for part in ("train", "dev", "test"):
        for row in _table(folder, f"zh_cold/COLDataset/{part}.csv"):
            yield row["TEXT"], _of(row, "label", told)


def _hatecheck(folder: pathlib.Path, kind: str) -> Rows:
    told = {"hateful": True, "non-hateful": False}
    path = f"MHC Final Cases/hatecheck_cases_final_{kind}.csv"
    for row in _table(folder, f"multilingual_hatecheck/{path}"):
        yield row["test_case"], _of(row, "label_gold", told)


def _set(licence: str, reader: Callable[..., Rows], *more: str):
    return licence, lambda folder: reader(folder, *more)


_CHECKED = {
    "ar": "arabic",
    "de": "german",
    "es": "spanish",
    "fr": "french",
    "hi": "hindi",
    "it": "italian",
    "nl": "dutch",
    "pl": "polish",
    "pt": "portuguese",
    "zh": "mandarin",
}
_NC_SA = "CC BY-NC-SA 4.0"
# Language -> (licence, reader of the folder) of each set.
LANGUAGES = {
    "ar": [_set("MIT", _mlma, "ar")],
    "de": [_set("CC BY 4.0", _germeval)],
    "en": [
        _set("MIT", _davidson),
        _set("CC BY-SA 3.0 ES", _stormfront),
        _set("MIT", _mlma, "en"),
    ],
    "fr": [_set("MIT", _mlma, "fr")],
    "hi": [_set(_NC_SA, _hateeval, "Hi")],
    "id": [_set(_NC_SA, _okky)],
    "mr": [_set(_NC_SA, _mahahate), _set(_NC_SA, _hateeval, "Mr")],
    "pt": [_set("CC BY-SA 4.0", _toldbr), _set("CC BY-NC 4.0", _hatebr)],
    "zh": [_set("Apache-2.0", _cold)],
}
LANGUAGES |= {
    HATECHECK + code: [_set("CC BY 4.0", _hatecheck, name)]
    for code, name in _CHECKED.items()
}
