"""What the README promises, run word for word."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import sys

import pytest
import tiny

from htmaml_jax import results, train

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.mark.slow
def test_ten_lines_adapt_to_a_folder_of_clips(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    code = next(b for b in blocks if "adapt.load" in b)
    assert len(code.strip().splitlines()) <= 10
    run = re.search(r'adapt\.load\("(.*?)"\)', code)[1]
    clips = tiny.write_clips(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    fields = {"system": "htmaml", "train.steps": 30, "train.tasks": 4}
    train.main(tiny.arguments(clips, tmp_path / run, **fields))
    # The start-up log says which parameter is transformed how.
    assert "body/conv0/kernel" in capsys.readouterr().out
    new = tmp_path / "new_clips"
    new.mkdir()
    for name in ("tone02", "tone12"):
        for clip in range(3):
            target = tmp_path / "my_clips" / name / f"{clip}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clips / name / f"{clip}.wav", target)
        shutil.copy(clips / name / "4.wav", new / f"{name}.wav")
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out.split()
    # The new clips were cut from the same tones: named as they should be.
    assert said[said.index("tone02.wav") + 1] == "tone02"
    assert said[said.index("tone12.wav") + 1] == "tone12"


def test_tables_agree_with_results():
    import tables

    full = (ROOT / "results/README.md").read_text()
    for page in (README, full):
        assert tables.fill(page, ROOT / "results") == page
    # A table without rows would agree too.
    for start in ("| mixture |", "| W1 |"):
        assert start in README
    for start in ("**esc50-metaaudio**", "5-way 1-shot | protonet"):
        assert start in full


def test_summary_names_the_best_rival():
    import summary

    found = [
        _result("htmaml", "a", 0, [0.6, 0.8]),
        _result("htmaml", "b", 0, [0.5, 0.7]),
        _result("maml", "a", 0, [0.4, 0.5]),
        _result("maml", "b", 0, [0.4, 0.5]),
        _result("anil", "a", 0, [0.3, 0.5]),
        _result("anil", "a", 1, [0.9, 0.7]),
        _result("multi-maml", "a", 0, [1.0, 1.0]),
        _result("maml", "a", 0, [1.0, 1.0], "an-ablation"),
        _result("prototype", "a", 0, [1.0, 1.0], "latest"),
    ]
    *_, a, b = _rows(summary.table(found, {}))
    # Seeds of anil average to 0.6 in both tasks; an oracle is no rival.
    assert a[1:4] == ["a", "5-way 1-shot", "accuracy, %"]
    assert a[4].startswith("70.00 ±") and a[4].endswith("(1)")
    assert a[6].startswith("anil: 60.00 ±") and a[6].endswith("(2)")
    assert a[7].startswith("+10.00 ±")
    assert b[6].startswith("maml: 45.00 ±")
    # Together, anil has not met all that HT-MAML and MAML have; what HT-MAML
    # alone has met does not count.
    found.append(_result("htmaml", "c", 0, [0.1, 0.1]))
    _, _, both = _rows(summary.table(found, {"both": "[abc]"}))
    assert both[1] == "both" and both[4].startswith("65.00 ±")
    assert both[6].startswith("maml: 45.00 ±")


def test_results_are_whole():
    """Each stored mean is that of its values, under its own name."""
    for path in (ROOT / "results").glob("*/*.json"):
        if path.parent.name == "speed":
            continue
        found = json.loads(path.read_text())
        values = found["values"]
        assert len(values) == found["episodes"]
        if "corpus" in found:  # all texts of a language, in chunks
            assert len(values) == found["corpus"]["items"] // found["query"]
            assert found["corpus"]["items"] >= 1000
        elif found["metric"] == "dice":
            # A volume has thousands of voxels to be right or wrong about.
            assert found["episodes"] >= 100
        else:
            # Functions have no way; whatever the tasks, answers are many.
            asked = found["query"] * max(1, found["way"])
            assert found["episodes"] >= 20
            # With an encoder in the base network a task takes a second.
            slow = found["benchmark"] == "intent-encoder"
            assert found["episodes"] * asked >= (5_000 if slow else 10_000)
        assert abs(sum(values) / len(values) - found["mean"]) < 1e-4
        assert results.file_name(found) == str(
            path.relative_to(ROOT / "results")
        )
        assert "dirty" not in found["commit"]


def _result(
    system, benchmark, seed, values, variant="default", encoder="ngrams"
):
    return {
        "benchmark": benchmark,
        "system": system,
        "variant": variant,
        "inductive": True,
        "metric": "accuracy",
        "seed": seed,
        "way": 5,
        "shot": 1,
        "episodes_id": benchmark,
        "split": "test",
        "query": 5,
        "episodes": len(values),
        "values": values,
        "mean": sum(values) / len(values),
        "train": {"minutes": 1.0, "parameters": {"base": 7}},
        "config": {"data": {"encoder": encoder}},
    }


def _rows(table):
    return [[x.strip() for x in line.split("|")] for line in table.split("\n")]


def test_folds_become_one_table():
    """Cells are means over folds, differences pair what both have met."""
    import tables
    import wide_tables

    found = [
        _result("htmaml", "intent-liu-fold1", 0, [0.5, 0.7]),
        _result("htmaml", "intent-liu-fold1", 1, [0.7, 0.9]),
        _result("htmaml", "intent-liu-fold2", 0, [0.9, 0.9]),
        _result("htmaml", "intent-hwu64-fold1", 0, [0.4, 0.4]),
        _result("maml", "intent-liu-fold1", 0, [0.5, 0.6]),
    ]
    text = wide_tables.table(found, tables.TOGETHER["intents"])
    _, _, first, maml, ours = _rows(text)
    # What both have met comes first, then all that HT-MAML has.
    assert first[2:7] == ["htmaml", "1", "0, 1", "40.00", "70.00"]
    # Fold 1 of liu: 0.7 over two seeds; fold 2: 0.9.
    assert ours[2:8] == ["htmaml", "1, 2", "0, 1", "40.00", "80.00", "60.00"]
    # hwu64 is missing, and so is a mean; (0.6, 0.8) minus (0.5, 0.6).
    assert maml[2:8] == ["maml", "1", "0", "", "55.00", ""]
    assert maml[8].startswith("+15.00 ±")
    # Other features of one fold are rows among themselves.
    found.append(_result("maml", "intent-liu-fold2", 0, [0.5, 0.5], "x", "b"))
    rows = _rows(wide_tables.table(found, tables.TOGETHER["intents"]))
    assert [row[2:4] for row in rows[2:]] == [
        ["maml+x", "2"],
        ["htmaml", "1"],
        ["maml", "1"],
        ["htmaml", "1, 2"],
    ]


def test_out_of_scope_is_averaged_over_folds():
    import wide_tables

    found = []
    for fold, score in ((1, 0.9), (2, 0.8)):
        x = _result("maml", f"intent-clinc150-fold{fold}", 0, [0.5, 0.7])
        x["config"]["data"]["fold"] = fold
        both = {"probability": {"mean": score}, "logit": {"mean": score / 2}}
        found.append(x | {"out_of_scope": {"auroc": both}})
    found.append(_result("maml", "hate-ar", 0, [0.5, 0.7]))
    *_, only = _rows(wide_tables.scope(found))
    assert only[1:6] == ["5-way 1-shot", "maml", "1, 2", "85.0", "42.5"]


def test_ways_to_be_judged_are_compared_with_their_like():
    import tables
    import wide_tables

    found = [
        _result("htmaml", "hate-ar", 0, [0.5, 0.7]),
        _result("maml", "hate-ar", 0, [0.4, 0.6]),
        _result("htmaml", "hate-ar", 0, [0.3, 0.5], "zero-shot"),
        _result("maml", "hate-ar", 0, [0.1, 0.3], "zero-shot"),
        _result("htmaml", "hatecheck-it", 0, [0.5, 0.7]),
    ]
    text = wide_tables.table(found, tables.TOGETHER["hate"])
    heads, _, ours, zero, few, rival = _rows(text)
    assert heads[2:7] == ["system", "seeds", "hate-ar", "hatecheck-it", "mean"]
    assert ours[2:8] == ["htmaml", "0", "60.00", "60.00", "60.00", ""]
    assert zero[2] == "htmaml+zero-shot"
    assert few[7].startswith("+10.00 ±")
    assert rival[7].startswith("+20.00 ±")


def test_use_without_transforms_is_set_beside_use_with_them():
    import tables
    import wide_tables

    found = [
        _result("htmaml", "intent-liu-fold1", 0, [0.5, 0.7]),
        _result("htmaml", "intent-liu-fold1", 0, [0.6, 0.8], "strength0"),
        _result("htmaml", "intent-liu-fold1", 0, [0.2, 0.4], "x"),
        _result("htmaml", "intent-liu-fold1", 0, [0.1, 0.3], "x+strength0"),
    ]
    text = wide_tables.table(found, tables.TOGETHER["intents"])
    apart = {x[2]: x[7] for x in _rows(text)[2:]}
    assert apart["htmaml+strength0"].startswith("-10.00 ±")
    assert apart["htmaml+x+strength0"].startswith("+10.00 ±")
    assert apart["htmaml"] == ""


def test_share_of_the_joint_loss_that_is_recovered():
    import tables

    def result(system, values):
        return {
            "system": system,
            "variant": "default",
            "metric": "accuracy",
            "inductive": True,
            "way": 5,
            "shot": 1,
            "query": 5,
            "split": "test",
            "episodes_id": "a",
            "episodes": len(values),
            "values": values,
        }

    low, high = [0.4, 0.5, 0.42], [0.6, 0.7, 0.62]
    rows = [[result("maml", low)], [result("multi-maml", high)]]
    middle = [result("htmaml", [0.5, 0.6, 0.52])]
    _, said = tables._recovered([*rows, middle])
    assert "costs MAML +20.00 ± 0.00 points; htmaml recovers 50% of it" in said
    assert tables._recovered(rows) == []
    # One MAML for all is no worse: there is nothing to recover.
    swapped = [[result("multi-maml", low)], [result("maml", high)], middle]
    assert "nothing that could" in tables._recovered(swapped)[1]
