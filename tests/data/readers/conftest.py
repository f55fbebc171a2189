"""The official layouts of the IQA sets, with the real labels where they are and empty files as images."""

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from scipy.io import savemat

REAL = Path(__file__).parents[4] / "shared" / "data"


def real_labels(name: str) -> list[dict[str, str]]:
    """Columns dis_img_path, dis_type, ref_img_path, score; names in lower case."""
    path = REAL / "mos_labels" / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"the labels of {name} are not here")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def lay_out(root: Path, labels: list[dict[str, str]]) -> None:
    names = {
        label[column].partition("/")[2] for label in labels for column in ("dis_img_path", "ref_img_path")
    }
    for folder in {Path(name).parent for name in names}:
        (root / folder).mkdir(parents=True)
    for name in names:
        (root / name).touch()


def tid2013(root: Path, labels: list[dict[str, str]]) -> None:
    # as in the archive: names of files and of labels differ in letter case
    lines = [f"{line['score']} {Path(line['dis_img_path']).name.upper()}" for line in labels]
    (root / "mos_with_names.txt").write_text("\r\n".join(lines) + "\r\n")


def kadid10k(root: Path, labels: list[dict[str, str]]) -> None:
    with (root / "dmos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dist_img", "ref_img", "dmos", "var"])
        for line in labels:
            names = Path(line["dis_img_path"]).name, Path(line["ref_img_path"]).name
            writer.writerow([*names, line["score"], "0.5"])


def csiq(root: Path, labels: list[dict[str, str]]) -> None:
    types = {"awgn": "noise", "jpeg2000": "jpeg 2000"}
    book = openpyxl.Workbook()
    book.active.title = "readme"
    sheet = book.create_sheet("all_by_image")
    header = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
    for column, name in enumerate(header, 4):
        sheet.cell(4, column, name)
    for row, line in enumerate(labels, 5):
        name, _, level, _ = Path(line["dis_img_path"]).name.rsplit(".", 3)
        folder = line["dis_img_path"].split("/")[2].lower()
        cells = [
            int(name) if name.isdigit() else name,  # 1600.png is a number in the sheet
            1,
            types.get(folder, folder),
            int(level),
            0.1,
            float(line["score"]),
        ]
        for column, cell in enumerate(cells, 4):
            sheet.cell(row, column, cell)
    book.save(root / "csiq.DMOS.xlsx")


def live(root: Path, labels: list[dict[str, str]]) -> None:
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    by_name = {line["dis_img_path"].partition("/")[2]: line for line in labels}
    names = [f"{folder}/img{i}.bmp" for folder, count in counts.items() for i in range(1, count + 1)]
    lines = [by_name.get(name) for name in names]
    for name in names:
        (root / name).touch()
    references = [Path(line["ref_img_path"]).name if line else "bikes.bmp" for line in lines]
    savemat(
        root / "dmos_realigned.mat",
        {
            "dmos_new": np.array([[float(line["score"]) if line else 0.0 for line in lines]]),
            "dmos_std": np.full((1, len(lines)), 6.0),
            "orgs": np.array([[line is None for line in lines]], dtype=np.uint8),
        },
    )
    savemat(root / "refnames_all.mat", {"refnames_all": np.array([references], dtype=object)})


LAYOUTS = {
    "csiq": ("CSIQ", csiq),
    "tid2013": ("TID2013", tid2013),
    "kadid10k": ("KADID-10k", kadid10k),
    "live": ("LIVE", live),
}


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[dict[str, str]]]]:
    """Lay a set out by its command's name, once; its root, and its labels as others published them."""

    @cache
    def make(name: str) -> tuple[Path, list[dict[str, str]]]:
        title, write = LAYOUTS[name]
        labels = real_labels(title)
        root = tmp_path_factory.mktemp("sets") / name
        lay_out(root, labels)
        write(root, labels)
        return root, labels

    return make
