"""A small tree of the hate speech sets, with invented, harmless texts."""

from __future__ import annotations

import csv
import pathlib
import zipfile

import openpyxl

# Made-up words: GOOD is said in texts of one class, BAD in those of the other.
GOOD, BAD = "plimo", "gnarfo"


def texts(mark: str, word: str, count: int) -> list[str]:
    return [f"{mark}{n} {word} soup {mark}" for n in range(count)]


def table(path: pathlib.Path, header: str, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(), *rows])


def german(root: pathlib.Path, rows: list[tuple[str, str]]) -> None:
    for part, mine in (("training", rows[::2]), ("test", rows[1::2])):
        path = root / f"de_germeval2018/germeval2018.{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{text}\t{label}\tX" for text, label in mine]
        path.write_text("\n".join(lines) + "\n", "utf-8")


def mlma(root: pathlib.Path, **rows: list[tuple[str, str]]) -> None:
    folder = root / "enfrar_mlma"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "hate_speech_mlma.zip", "w") as out:
        for language, mine in rows.items():
            table(folder / "x.csv", "tweet sentiment", mine)
            name = f"hate_speech_mlma/{language}_dataset.csv"
            out.write(folder / "x.csv", name)


def marathi(root: pathlib.Path, rows: list[tuple[str, str]]) -> None:
    folder = root / "mr_mahahate/L3Cube-MahaHate/4-class"
    folder.mkdir(parents=True)
    for part in ("train", "valid", "test"):
        book = openpyxl.Workbook()
        mine = rows if part == "train" else []
        for row in [("text", "label"), *mine]:
            book.active.append(row)
        book.save(folder / f"hate_{part}.xlsx")


def hatecheck(root: pathlib.Path, kind: str, rows: list) -> None:
    name = f"MHC Final Cases/hatecheck_cases_final_{kind}.csv"
    path = root / "multilingual_hatecheck" / name
    table(path, "test_case label_gold", rows)


def whole(root: pathlib.Path, count: int = 60) -> pathlib.Path:
    """Writes German, Indonesian, French, Arabic and Dutch test cases."""

    def both(mark, bad, good):
        mine = [(x, bad) for x in texts(mark, BAD, count)]
        return mine + [(x, good) for x in texts(mark, GOOD, count)]

    german(root, both("de", "OFFENSE", "OTHER"))
    rows = [(text, mark, 0) for text, mark in both("id", 1, 0)]
    table(root / "id_okky/re_dataset.csv", "Tweet HS Abusive", rows)
    mlma(
        root,
        fr=both("fr", "offensive", "normal"),
        ar=both("ar", "hateful_normal", "normal"),
    )
    hatecheck(root, "dutch", both("nl", "hateful", "non-hateful"))
    return root
