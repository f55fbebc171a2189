"""A pack that was made smaller is a pack like the one before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonyiqa.synthesize.regions import find_photos, read_labels


def test_photos_regions_and_splits_go_along_and_test_photos_stay(
    load_script, split_pack: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("shrink_photos")
    pack = split_pack("street7", "test")
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
