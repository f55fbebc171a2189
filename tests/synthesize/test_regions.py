import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.errors import UserError
from harmonyiqa.synthesize.regions import find_photos, find_regions, read_photo


def save_photo(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = labels.shape
    Image.new("RGB", (width, height), (200, 100, 50)).save(path)
    Image.fromarray(labels.astype(np.uint8)).save(path.with_name(path.stem + ".regions.png"))


@pytest.fixture
def labels() -> np.ndarray:
    """20 x 20: class 1 in two pieces of 10% and one of 1%, class 2 of 15%, the rest unlabelled."""
    labels = np.zeros((20, 20), np.uint8)
    labels[0:5, 0:8] = 1
    labels[0:5, 10:18] = 1
    labels[19, 0:4] = 1
    labels[10:16, 5:15] = 2
    return labels


def test_in_a_map_of_regions_a_value_is_one_region(labels: np.ndarray) -> None:
    regions = find_regions(labels, is_class_map=False)
    assert [int(region.sum()) for region in regions] == [84, 60]


def test_in_a_map_of_classes_pieces_and_the_union_are_regions(labels: np.ndarray) -> None:
    regions = find_regions(labels, is_class_map=True)
    assert sorted(int(region.sum()) for region in regions) == [40, 40, 60, 144]  # the 1% piece is too small


@pytest.mark.parametrize(("share", "kept"), [(0.02, 0), (0.03, 1), (0.5, 1), (0.51, 0)])
def test_regions_fill_3_to_50_percent(share: float, kept: int) -> None:
    labels = np.zeros(10_000, np.uint8)
    labels[: round(share * 10_000)] = 7
    assert len(find_regions(labels.reshape(100, 100), is_class_map=False)) == kept


def test_photos_beside_their_maps_are_found_in_subfolders(tmp_path: Path, labels: np.ndarray) -> None:
    save_photo(tmp_path / "a" / "one.jpg", labels)
    save_photo(tmp_path / "two.png", labels)
    Image.new("RGB", (4, 4)).save(tmp_path / "no_map.jpg")
    photos = find_photos(tmp_path, "all")
    assert [(photo.content, photo.split, photo.is_class_map) for photo in photos] == [
        ("a-one", None, False),
        ("two", None, False),
    ]


def test_a_photo_pack_names_splits_and_class_maps(tmp_path: Path, labels: np.ndarray) -> None:
    for name in ("street/1.jpg", "pets/1.jpg", "pets/2.jpg"):
        save_photo(tmp_path / name, labels)
    (tmp_path / "classes.json").write_text(json.dumps({"street": {"1": "car"}}))
    (tmp_path / "photos.csv").write_text(
        "image,regions,source,split\n"
        "street/1.jpg,street/1.regions.png,street,train\n"
        "pets/1.jpg,pets/1.regions.png,pets,train\n"
        "pets/2.jpg,pets/2.regions.png,pets,test\n"
        "pets/3.jpg,,pets,test\n"
    )
    assert [(photo.content, photo.is_class_map) for photo in find_photos(tmp_path, "train")] == [
        ("street-1", True),
        ("pets-1", False),
    ]
    assert [photo.content for photo in find_photos(tmp_path, "test")] == ["pets-2"]
    assert len(find_photos(tmp_path, "all")) == 3
    with pytest.raises(UserError, match="has no photo of split 'val' with a region map; put NAME"):
        find_photos(tmp_path, "val")


def test_reading_shrinks_but_never_enlarges(tmp_path: Path, labels: np.ndarray) -> None:
    save_photo(tmp_path / "a.png", np.kron(labels, np.ones((2, 4), np.uint8)))
    (photo,) = find_photos(tmp_path, "all")
    rgb, regions = read_photo(photo, 40)
    assert rgb.shape == (20, 40, 3)
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb[0, 0], np.array([200, 100, 50]) / 255, atol=1e-6)
    assert [region.shape for region in regions] == [(20, 40)] * 2
    assert read_photo(photo, 500)[0].shape == (40, 80, 3)


def damage(path: Path, how: str) -> None:
    if how == "size":
        Image.new("L", (5, 5)).save(path)
    elif how == "mode":
        Image.new("RGB", (20, 20)).save(path)
    else:
        path.write_bytes(b"not an image")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("size", r"region map .*a\.regions\.png is 5 x 5, its photo 20 x 20"),
        ("mode", r"has mode RGB; save it as 8-bit grey or palette PNG"),
        ("bytes", r"region map .*a\.regions\.png cannot be read"),
    ],
)
def test_a_bad_map_is_named(tmp_path: Path, labels: np.ndarray, how: str, message: str) -> None:
    save_photo(tmp_path / "a.png", labels)
    damage(tmp_path / "a.regions.png", how)
    (photo,) = find_photos(tmp_path, "all")
    with pytest.raises(UserError, match=message):
        read_photo(photo, 64)


def test_bad_folders_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"photo folder .*nowhere does not exist"):
        find_photos(tmp_path / "nowhere", "all")
    save_photo(tmp_path / "a.png", labels)
    save_photo(tmp_path / "a.jpg", labels)
    with pytest.raises(UserError, match=r"two photos in .* would both be called 'a'"):
        find_photos(tmp_path, "all")
    (tmp_path / "photos.csv").write_text("image,regions,source,split\na.png,a.regions.png,x,trian\n")
    with pytest.raises(UserError, match=r"split 'trian' in row 1 of photos\.csv"):
        find_photos(tmp_path, "all")
