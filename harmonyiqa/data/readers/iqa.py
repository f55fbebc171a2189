"""CSIQ, TID2013, KADID-10k and LIVE, as their authors distribute them, made into the rows of a manifest.

The reference is the content, the kind of distortion the method. MOS is linear on the published scale, turned
where that counts distortion (DMOS); the published value stays beside it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from harmonyiqa.data.manifest import Row
from harmonyiqa.data.readers.common import Files, Scale, counted, read_sheet
from harmonyiqa.data.tables import read_table
from harmonyiqa.errors import UserError


@dataclass(frozen=True, slots=True)
class Label:
    """One line of a label file.

    Attributes:
        image: path from the root of the set, in the letter case of its documents.
        reference: likewise.
        method: the kind of distortion.
        score: the cell as it was read.
        std: cell with the standard deviation of the opinions, on the scale of the score.
    """

    image: str
    reference: str
    method: str
    score: Any
    std: Any = None


@dataclass(frozen=True)
class ImageSet:
    """A data set with its official counts.

    Attributes:
        name: as tables print it.
        images: distorted images with a label.
        references: untouched images.
        scale: the published scale.
        read: the labels below a root, and the images that have none by design; raises UserError.
    """

    name: str
    images: int
    references: int
    scale: Scale
    read: Callable[[Path], tuple[list[Label], list[str]]]


def rows_of_set(which: ImageSet, root: str | Path, out: str | Path) -> tuple[list[Row], list[str]]:
    """One row a labelled image that is there, in the order of the label file.

    Args:
        which: one of ``SETS``.
        root: the folder that the archive unpacks to.
        out: where the manifest will stand; the rows' paths start from its folder.

    Returns:
        The rows, and everything that is wrong, one line a kind: missing images and references, scores that are
        none, labels given twice, images without a label, counts other than the official ones.

    Raises:
        UserError: if the label file is missing or cannot be read, or there is no image.
    """
    root = Path(root)
    labels, unlabelled = which.read(root)
    files = Files(root, out)
    rows: list[Row] = []
    no_image, no_reference, no_score = [], set(), []
    for label in labels:
        image, reference = files.find(label.image), files.find(label.reference)
        score = which.scale.parse(label.score)
        if image is None:
            no_image.append(label.image)
        if reference is None:
            no_reference.add(label.reference)
        if score is None:
            no_score.append(f"{label.image} ({label.score})")
        if image is None or score is None:
            continue
        rows.append(
            Row(
                image=image,
                reference=reference,
                mos=which.scale.mos(score),
                mos_std=which.scale.mos_std(label.std),
                method=label.method,
                content=PurePosixPath(label.reference).stem.lower(),
                extra=which.scale.original(score),
            )
        )
    twice = [name for name, count in Counter(label.image.lower() for label in labels).items() if count > 1]
    known = {name.lower() for label in labels for name in (label.image, label.reference)}
    known |= {name.lower() for name in unlabelled}
    problems = [
        *counted(no_image, "labelled images are missing"),
        *counted(sorted(no_reference), "references are missing"),
        *counted(no_score, f"labels hold no score from {which.scale}"),
        *counted(twice, "images have two labels"),
        *counted([name for name in files.names if name.lower() not in known], "images have no label"),
        *_count_problems(which, labels),
    ]
    return rows, problems


def _count_problems(which: ImageSet, labels: list[Label]) -> Iterator[str]:
    references = {label.reference.lower() for label in labels}
    for found, official, what in (
        (len(labels), which.images, "labels"),
        (len(references), which.references, "references"),
    ):
        if found != official:
            yield f"{found} {what}, {which.name} has {official}"


def _read_tid2013(root: Path) -> tuple[list[Label], list[str]]:
    """Lines such as ``5.51429 I01_01_1.bmp``: MOS, reference_distortion_level."""
    path = root / "mos_with_names.txt"
    labels, wrong = [], []
    for number, line in enumerate(_text(path).splitlines(), 1):
        score, _, name = line.strip().partition(" ")
        reference, *kind = name.strip().split("_")
        if kind:
            image = f"distorted_images/{name.strip()}"
            labels.append(Label(image, f"reference_images/{reference}.bmp", kind[0], score))
        elif line.strip():
            wrong.append(f"{line.strip()!r} (line {number})")
    if problem := counted(wrong, f"lines of {path} are not like '5.51429 I01_01_1.bmp'"):
        raise UserError(problem[0])
    return labels, []


def _read_kadid10k(root: Path) -> tuple[list[Label], list[str]]:
    """``dmos.csv``, higher is better. Its ``var`` stays out: some say a variance, some a standard deviation."""
    path = root / "dmos.csv"
    table = read_table(path)
    _need(path, list(table[0]) if table else [], "dist_img", "ref_img", "dmos")
    labels = []
    for row in table:
        image = str(row["dist_img"])
        kind = image.split("_")[1] if "_" in image else ""
        labels.append(Label(f"images/{image}", f"images/{row['ref_img']}", kind, row["dmos"]))
    return labels, []


# dst_type -> folder below dst_imgs, and what stands in the file names
_CSIQ_TYPES = {
    "noise": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}


def _read_csiq(root: Path) -> tuple[list[Label], list[str]]:
    """Sheet ``all_by_image`` of ``csiq.DMOS.xlsx``; its header stands some rows and columns inside."""
    path = root / "csiq.DMOS.xlsx"
    cells = iter(read_sheet(path, "all_by_image"))
    names: list[str] = []
    for row in cells:
        names = [_plain(cell) for cell in row]
        if "dst_type" in names:
            break
    _need(path, names, "image", "dst_type", "dst_lev", "dmos")
    labels = []
    for row in cells:
        line = dict(zip_longest(names, row))  # a sheet may leave the ends of its rows out
        name, kind = _plain(line["image"]), _plain(line["dst_type"]).lower()
        if not name:
            continue
        folder, mark = _CSIQ_TYPES.get(kind, (kind, kind))  # contrast, fnoise: as they are
        image = f"dst_imgs/{folder}/{name}.{mark}.{_plain(line['dst_lev'])}.png"
        std = line.get("dmos_std")
        labels.append(Label(image, f"src_imgs/{name}.png", folder, line["dmos"], std))
    return labels, []


def _plain(cell: Any) -> str:
    """A spreadsheet's cell as text: image 1600 is a number there, and may be 1600.0."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


_LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def _read_live(root: Path) -> tuple[list[Label], list[str]]:
    """Vectors over img1, img2, ... of the five folders; ``orgs`` marks copies of a reference, which have no DMOS."""
    images = [
        f"{folder}/img{number}.bmp"
        for folder, count in _LIVE_FOLDERS.items()
        for number in range(1, count + 1)
    ]
    realigned = root / "dmos_realigned.mat"
    path = realigned if realigned.exists() else root / "dmos.mat"
    matrices = _mat(path)
    scores = _vector(matrices, "dmos_new" if path == realigned else "dmos", len(images), path)
    copies = _vector(matrices, "orgs", len(images), path)
    stds = matrices.get("dmos_std", [None] * len(images))
    names = root / "refnames_all.mat"
    references = _vector(_mat(names), "refnames_all", len(images), names)
    labels = [
        Label(image, f"refimgs/{str(reference).strip()}", image.partition("/")[0], score, std)
        for image, reference, score, std, copy in zip(images, references, scores, stds, copies, strict=True)
        if not copy
    ]
    return labels, [image for image, copy in zip(images, copies, strict=True) if copy]


def _vector(matrices: dict[str, Any], name: str, length: int, path: Path) -> Any:
    found = len(matrices[name]) if name in matrices else 0
    if found != length:
        raise UserError(f"{name} in {path} has {found} values; that of LIVE release 2 has {length}")
    return matrices[name]


SETS = {
    "csiq": ImageSet("CSIQ", 866, 30, Scale(worst=1, best=0), _read_csiq),
    "tid2013": ImageSet("TID2013", 3000, 25, Scale(worst=0, best=9), _read_tid2013),
    "kadid10k": ImageSet("KADID-10k", 10125, 81, Scale(worst=1, best=5), _read_kadid10k),
    # realigned DMOS leaves 0-100: it runs from -2.64 to 111.77
    "live": ImageSet("LIVE", 779, 29, Scale(worst=115, best=-5), _read_live),
}


def _mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(f"{path} does not exist; the data set comes with it")
    try:
        return dict(loadmat(path, squeeze_me=True))
    except Exception as error:  # scipy raises nearly anything on damaged bytes
        raise UserError(f"{path} cannot be read as a MATLAB file: {error}") from error


def _text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path} does not exist; the data set comes with it")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason})") from error


def _need(path: Path, names: Any, *wanted: str) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)} (columns: {', '.join(filter(None, names))})"
        )
