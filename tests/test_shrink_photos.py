"""A pack that was made smaller is a pack like the one before."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.synthesize.regions import find_photos, read_labels

SCRIPT = Path(__file__).parents[1] / "scripts" / "shrink_photos.py"


def test_photos_regions_and_splits_go_along_and_test_photos_stay(
    small_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("shrink_photos", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    pack = tmp_path / "pack"
    pack.mkdir()
    for file in small_pack.iterdir():
        (pack / file.name).symlink_to(file)
    table = (small_pack / "photos.csv").read_text()
    (pack / "photos.csv").unlink()
    (pack / "photos.csv").write_text(
        table.replace("street7.regions.png,street,train", "street7.regions.png,street,test")
    )

    script.main(str(pack), str(tmp_path / "small"), side=24)
    before, after = (find_photos(folder, "all", without_map=True) for folder in (pack, tmp_path / "small"))
    assert [(p.content, p.source, p.split, p.is_class_map) for p in after] == [
        (p.content, p.source, p.split, p.is_class_map) for p in before if p.split != "test"
    ]
    assert len(after) == len(before) - 1
    for photo in after:
        size = Image.open(photo.image).size
        assert size == (32, 24)
        if photo.regions is not None:
            labels = np.asarray(read_labels(photo.regions, size))
            assert set(np.unique(labels)) == {0, 3, 7} if photo.source == "pets" else {0, 3}
    assert capsys.readouterr().out.startswith("8 photos, 0.0 MiB")
