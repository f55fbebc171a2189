from pathlib import Path

import pytest

from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.data.readers.command import harmonyiqad, table, tid2013
from harmonyiqa.errors import UserError


def test_a_whole_set_is_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"model{m}_{c}.jpg,40.5" for m in range(9) for c in range(1, 151)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,mos", *lines]))
    assert harmonyiqad(str(tmp_path / "labels.csv"), str(tmp_path / "m.csv")) == 0
    told = f"{tmp_path / 'm.csv'}: 1350 rows, 150 contents, 1350 MOS from 40.50 to 40.50\n"
    assert capsys.readouterr().out == told
    assert read_manifest(tmp_path / "m.csv").rows[9].method == "model0"


def test_problems_are_listed_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text("picture,dmos\na.png,0.5\nb.png,7\n")
    status = table(
        str(tmp_path / "labels.csv"), str(tmp_path / "m.csv"), image="picture", score="dmos", worst=1, best=0
    )
    assert status == 1
    assert capsys.readouterr().out.splitlines() == [
        "1 labels hold no score from 0 to 1: b.png (7 in row 2)",
        f"{tmp_path / 'm.csv'}: 1 rows, 1 MOS from 50.00 to 50.00; 1 kinds of problems, listed above",
    ]


def test_no_image_at_all_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mos_with_names.txt").write_text("5.5 I01_01_1.bmp\n")
    (tmp_path / "other.png").touch()
    with pytest.raises(UserError, match="has no image with a label"):
        tid2013(str(tmp_path), str(tmp_path / "m.csv"))
    assert not (tmp_path / "m.csv").exists()
