from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.data.check import find_problems
from harmonyiqa.data.manifest import Manifest, Row


def picture(path: Path, seed: int, size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def sound(tmp_path: Path) -> Manifest:
    rows = []
    for i in range(4):
        picture(tmp_path / f"i{i}.png", seed=i)
        picture(tmp_path / f"r{i}.png", seed=10 + i)
        picture(tmp_path / f"m{i}.png", seed=20 + i)
        rows.append(
            Row(
                f"i{i}.png",
                reference=f"r{i}.png",
                mask=f"m{i}.png",
                mos=50.0 + i,
                content=f"c{i}",
                split="train" if i < 2 else "test",
            )
        )
    return Manifest(tmp_path / "m.csv", rows)


def changed(manifest: Manifest, index: int, **values: object) -> Manifest:
    rows = list(manifest.rows)
    rows[index] = replace(rows[index], **values)
    return replace(manifest, rows=rows)


def test_a_sound_manifest_has_no_problem(sound: Manifest) -> None:
    assert find_problems(sound) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mos": 100.5}, ["row 2: mos 100.5 lies outside 0-100"]),
        ({"mos": -1.0}, ["row 2: mos -1 lies outside 0-100"]),
        ({"mos_std": -0.5}, ["row 2: mos_std -0.5 is negative"]),
        ({"mask": None}, ["row 2: no mask, though other rows have one"]),
        ({"content": "c3"}, ["content 'c3' stands in train and test"]),
        (
            {"image": "i0.png", "reference": "r0.png"},
            ["rows 1 and 2: the same image i0.png and reference"],
        ),
    ],
)
def test_a_wrong_cell_is_the_only_problem(sound: Manifest, values: dict, expected: list[str]) -> None:
    assert find_problems(changed(sound, 1, **values)) == expected


@pytest.mark.parametrize("kind", ["image", "reference", "mask"])
def test_a_missing_file_is_named_once(sound: Manifest, kind: str) -> None:
    (problem,) = find_problems(changed(sound, 1, **{kind: "gone.png"}))
    assert problem.startswith(f"row 2: {kind}: ")
    assert "gone.png" in problem


def test_a_file_that_does_not_decode_is_named(sound: Manifest) -> None:
    path = sound.resolve("i2.png")
    path.write_bytes(path.read_bytes()[:60])
    (problem,) = find_problems(sound)
    assert problem.startswith("row 3: image: ")
    assert "i2.png" in problem


@pytest.mark.parametrize("kind", ["reference", "mask"])
def test_a_partner_of_another_size_is_told_with_both_sizes(sound: Manifest, kind: str) -> None:
    picture(sound.resolve("big.png"), seed=99, size=(24, 16))
    expected = f"row 4: {kind} big.png is 24 x 16, its image 12 x 8"
    assert find_problems(changed(sound, 3, **{kind: "big.png"})) == [expected]


def test_the_same_bytes_under_two_names_are_found(sound: Manifest) -> None:
    sound.resolve("i3.png").write_bytes(sound.resolve("i0.png").read_bytes())
    assert find_problems(sound) == ["rows 1 and 4: the same bytes in i0.png, i3.png"]


def test_one_image_with_two_references_is_no_duplicate(sound: Manifest) -> None:
    assert find_problems(changed(sound, 1, image="i0.png")) == []
