"""Volumes of one's own: as of the Decathlon, and as of TotalSegmentator."""

import json
import shutil

import hypothesis
import numpy as np
import pytest
import tiny_volumes
from hypothesis import strategies as st
from tiny_volumes import settings

from htmaml_jax import config
from htmaml_jax.data import find, nifti, own_volumes
from htmaml_jax.errors import UserError


def write_case(root, image, mask, **affines):
    tiny_volumes.write(root / "imagesTr/a.nii.gz", image)
    tiny_volumes.write(root / "labelsTr/a.nii.gz", mask, **affines)


def test_bad_files_are_named_before_anything_is_made(tmp_path):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 2)
    image, mask = tiny_volumes.scan(0)
    strange = mask.copy()
    strange[0, 0, 0] = 9
    nan = image.copy()
    nan[0] = np.nan
    bad = {
        "labelsTr/a.nii.gz has the shape": (image, mask[1:]),
        "labelsTr/a.nii.gz has the label 9": (image, strange),
        "imagesTr/a.nii.gz has 144 voxels": (nan, mask),
        "imagesTr/a.nii.gz is 4-D": (np.stack([image] * 2, -1), mask),
    }
    for words, pair in bad.items():
        write_case(root, *pair)
        with pytest.raises(UserError, match=words):
            find.load(settings("decathlon", root))
    write_case(root, image, mask, affine=np.diag([2.0, 2.0, 2.5, 1.0]))
    with pytest.raises(UserError, match="different affines"):
        find.load(settings("decathlon", root))
    (root / "labelsTr/a.nii.gz").unlink()
    with pytest.raises(UserError, match="imagesTr/a.nii.gz has no mask"):
        find.load(settings("decathlon", root))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        ('{"labels": {"0": "background"}}', "name each label"),
        ('{"labels": {"1": "a", "2": "a"}}', "name each label"),
        ('{"labels": {"x": "y"}}', "not numbers"),
    ],
)
def test_what_dataset_json_must_say(tmp_path, text, words):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 1)
    (root / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=words):
        find.load(settings("decathlon", root))
    (root / "dataset.json").unlink()
    with pytest.raises(UserError, match="has no dataset.json"):
        find.load(settings("decathlon", root))


def test_few_structures_are_for_tests_alone(tmp_path):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 3)
    about = json.loads((root / "dataset.json").read_text())
    whole = {"0": "background", "1": "a", "2": "b"}
    (root / "dataset.json").write_text(json.dumps(about | {"labels": whole}))
    for path in (root / "labelsTr").iterdir():
        image, mask = tiny_volumes.scan(0)
        tiny_volumes.write(path, np.minimum(mask, 2))
    found = find.load(settings("decathlon", root))
    assert dict(found.splits) == {"test": ("a", "b")}


def test_two_tasks_of_the_decathlon_are_not_one(tmp_path):
    for name in ("Task03", "Task09"):
        path = tiny_volumes.decathlon(tmp_path / name, 1) / "dataset.json"
        about = json.loads(path.read_text())
        path.write_text(json.dumps(about | {"name": name}))
    with pytest.raises(UserError, match="several dataset.json: Task03/.*Task0"):
        find.load(settings("decathlon", tmp_path))


def test_volumes_of_one_subject_stay_together(tmp_path):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 4)
    found = find.load(settings("decathlon", root))
    assert len(set(found.recordings)) == len(set(found.masks.cases))
    one = settings("decathlon", root, recording="^(case)_")
    assert set(find.load(one).recordings) == {0}
    with pytest.raises(UserError, match="does not match this file name"):
        find.load(settings("decathlon", root, recording="^scan(.*)"))


@pytest.mark.parametrize("form", ["totalsegmentator", "decathlon"])
def test_structures_far_apart_have_cubes_of_their_own(tmp_path, form):
    root = tmp_path / "far"
    if form == "totalsegmentator":
        tiny_volumes.totalseg(root)
    else:
        tiny_volumes.decathlon(root, 12)
        for kind, data in zip(
            ("images", "labels"), tiny_volumes.apart(), strict=True
        ):
            for path in (root / f"{kind}Tr").iterdir():
                tiny_volumes.write(path, data)
    found = find.load(settings(form, root, side=16))
    assert len({x for names in found.splits.values() for x in names}) == 4
    for mask, label in zip(found.masks.masks, found.labels, strict=True):
        # 5 x 5 x 5 cells, of which resampling takes corners.
        assert 100 < (mask == label + 1).sum() < 150
        assert set(np.unique(mask)) == {0, label + 1}
    shown = found.inputs[..., 0][found.masks.masks > 0]
    assert shown.min() > np.median(found.inputs)


def test_what_the_window_of_a_scan_is(tmp_path):
    window = tuple(config.default().data.hounsfield)
    for kind, wanted in (("ct", window), ("mri", None)):
        root = tiny_volumes.totalseg(tmp_path / kind, 2, kind)
        found = find.load(settings("totalsegmentator", root, side=16))
        assert found.front_end["window"] == wanted
    root = tiny_volumes.decathlon(tmp_path / "blocks", 1)
    about = json.loads((root / "dataset.json").read_text())
    about.pop("modality", None)
    for said, wanted in (({"0": "CT"}, window), (["SPECT"], None)):
        about |= {"channel_names": said}
        (root / "dataset.json").write_text(json.dumps(about))
        found = find.load(settings("decathlon", root))
        assert found.front_end["window"] == wanted


def test_structures_wider_than_their_cubes_are_left_out(tmp_path, capsys):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 3)
    image, mask = tiny_volumes.scan(0, 30)
    mask[1:29, 1, 1] = 4
    for path in (root / "labelsTr").iterdir():
        tiny_volumes.write(root / "imagesTr" / path.name, image)
        tiny_volumes.write(path, mask)
    for _ in range(2):  # also where the arrays come from the cache
        found = find.load(settings("decathlon", root))
        assert {found.classes[x] for x in found.labels} <= {
            *("top-half", "ball", "rod"),
        }
        said = capsys.readouterr().out
        assert "left out: plate, 56 mm wide" in said
        assert "data.spacing=14.0" in said
    tight = settings("decathlon", root, spacing=0.5)
    with pytest.raises(UserError, match="ball, 12 mm wide.*data.spacing=3.0"):
        find.load(tight)


def test_left_and_right_are_of_one_split(tmp_path):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 12)
    path = root / "dataset.json"
    about = json.loads(path.read_text())
    names = ("kidney_left", "kidney_right", "Left Lung", "spleen")
    labels = {str(i): name for i, name in enumerate(names, start=1)}
    path.write_text(json.dumps(about | {"labels": labels}))
    splits = find.load(settings("decathlon", root)).splits
    (kidneys,) = (x for x in splits.values() if "kidney_left" in x)
    assert kidneys == ("kidney_left", "kidney_right")
    assert sorted(map(len, splits.values())) == [1, 1, 2]


def test_scans_of_two_kinds_or_of_one_name_are_refused(tmp_path):
    root = tiny_volumes.totalseg(tmp_path / "a", 2)
    image, _ = tiny_volumes.apart()
    tiny_volumes.write(root / "s0000" / "mri.nii.gz", image)
    with pytest.raises(UserError, match="ct.nii.gz and mri.nii.gz"):
        find.load(settings("totalsegmentator", root, side=16))
    for name in "bc":
        tiny_volumes.totalseg(tmp_path / "two" / name, 1)
    tiny_volumes.write(tmp_path / "two/c/s0000/ct.nii.gz", 2 * image)
    with pytest.raises(UserError, match="b/s0000/ct.nii.gz and c/s0000/ct"):
        find.load(settings("totalsegmentator", tmp_path / "two", side=16))


def test_an_archive_beside_its_folder_counts_once(tmp_path):
    root = tiny_volumes.decathlon(tmp_path / "all" / "blocks", 2)
    shutil.make_archive(str(tmp_path / "all" / "blocks"), "zip", root)
    found = find.load(settings("decathlon", tmp_path / "all"))
    assert len(set(found.masks.cases)) == 2


def test_a_scan_without_its_masks_is_named(tmp_path):
    root = tiny_volumes.totalseg(tmp_path / "far", 2)
    for path in (root / "s0001" / "segmentations").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="s0001/ct.nii.gz has no mask"):
        find.load(settings("totalsegmentator", root, side=16))


def test_volumes_of_one_name_in_two_folders_are_not_one(tmp_path):
    """Else one's image may meet the other's mask."""
    for name in "ab":
        tiny_volumes.decathlon(tmp_path / name, 2)
    # All alike, as an archive beside what was taken out of it.
    assert len(set(found_cases(tmp_path))) == 2
    image, mask = tiny_volumes.scan(7)
    tiny_volumes.write(tmp_path / "b/imagesTr/case_00.nii.gz", image)
    with pytest.raises(UserError, match="a/images.* and b/images.* one name"):
        found_cases(tmp_path)
    (tmp_path / "b/imagesTr/case_00.nii.gz").unlink()
    tiny_volumes.write(tmp_path / "b/labelsTr/case_00.nii", mask)
    with pytest.raises(UserError, match="case_00.nii.* have one name"):
        found_cases(tmp_path)


def found_cases(root):
    return find.load(settings("decathlon", root)).masks.cases


def test_what_is_too_small_to_be_seen_is_told(tmp_path, capsys):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 3)
    for i in range(2):
        image, mask = tiny_volumes.scan(i)
        mask[mask == 2] = 0
        mask[6, 6, 6] = 2
        tiny_volumes.write(root / f"labelsTr/case_{i:02}.nii.gz", mask)
    find.load(settings("decathlon", root))
    told = "left out: ball in 2 volumes, whose cubes show fewer than 8"
    assert told in capsys.readouterr().out
    for i in range(3):
        image, mask = tiny_volumes.scan(i)
        small = np.zeros_like(mask)
        small[6, 6, 6] = 2
        tiny_volumes.write(root / f"labelsTr/case_{i:02}.nii.gz", small)
    with pytest.raises(UserError, match="ball in 3 volumes.*data.spacing"):
        find.load(settings("decathlon", root))


@hypothesis.given(st.sets(st.text(max_size=5), min_size=3, max_size=60))
def test_each_split_has_subjects(names):
    splits = own_volumes.split_subjects(names)
    assert set(splits) == names
    share = [list(splits.values()).count(s) for s in ("test", "validation")]
    for count, part in zip(share, (0.3, 0.15), strict=True):
        assert count == max(1, round(part * len(names)))
    assert "train" in splits.values()


def test_names_fit_for_files(tmp_path):
    root = tiny_volumes.decathlon(tmp_path / "Mine", 3)
    about = json.loads((root / "dataset.json").read_text())
    for told, name in (
        ("BTCV/Abdomen ../x", "btcv-abdomen-x"),
        ("", "mine"),
        ("Hippocampus", "hippocampus"),
    ):
        text = json.dumps(about | {"name": told})
        (root / "dataset.json").write_text(text)
        data = settings("decathlon", root)
        table = find.load(data)
        assert table.name == find.benchmark(table, data) == name


def test_a_link_to_nothing_is_in_nobodys_way(tmp_path):
    """As data sets of git-annex hold until they are fetched."""
    root = tiny_volumes.decathlon(tmp_path / "blocks", 3)
    (root / "README.txt").symlink_to(root / "gone")
    find.load(settings("decathlon", root))
    path = root / "imagesTr/case_00.nii.gz"
    path.unlink()
    path.symlink_to(root / "gone")
    with pytest.raises(UserError, match="imagesTr/case_00.nii.gz cannot be"):
        find.load(settings("decathlon", root))


def test_bad_files_come_before_work(tmp_path, monkeypatch):
    root = tiny_volumes.decathlon(tmp_path / "blocks", 3)
    (root / "labelsTr/case_02.nii.gz").write_bytes(b"nothing")

    def never(*_, **__):
        raise AssertionError("something was resampled")

    monkeypatch.setattr(nifti, "sample", never)
    with pytest.raises(UserError, match="case_02.nii.gz is no whole NIfTI"):
        find.load(settings("decathlon", root))
