"""Tar shards and datasets give the items of the files that went into them."""

import io
import tarfile
from pathlib import Path

import pytest

from harmonyiqa.data.predictions import read_predictions
from harmonyiqa.errors import UserError
from harmonyiqa.images import ImageError
from harmonyiqa.pipelines.score import score
from harmonyiqa.scoring.items import Item
from harmonyiqa.scoring.locations import open_location
from harmonyiqa.scoring.shards import dataset_items, tar_items
from harmonyiqa.scoring.sources import Source


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def colour_of(item: Item) -> object:
    return open_location(item.image_path, item.image).getpixel((3, 3))


@pytest.fixture
def png(pictures: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(pictures.iterdir())}


def test_a_shard_is_its_images_in_order_with_their_references(
    tmp_path: Path, pictures: Path, png: dict[str, bytes]
) -> None:
    members = {
        "z/1.png": png["a"],
        "z/1.reference.png": png["b"],
        "z/1.json": b"{}",
        "2.PNG": png["c"],
        "2.cls": b"3",
        "README": b"text",
    }
    shard = make_tar(tmp_path / "s.tar", members)
    first, second = tar_items(shard)
    assert (first.image, first.reference) == (f"{shard}/z/1.png", f"{shard}/z/1.reference.png")
    assert (second.image, second.reference) == (f"{shard}/2.PNG", None)
    plain = [Item("", None, pictures / f"{name}.png", None) for name in "ac"]
    assert [colour_of(first), colour_of(second)] == [colour_of(item) for item in plain]
    assert [item.reference_path for item in tar_items(shard, no_reference=True)] == [None, None]


def test_a_link_in_a_shard_and_a_cut_shard_are_errors(tmp_path: Path, png: dict[str, bytes]) -> None:
    shard = make_tar(tmp_path / "s.tar", {"a.png": png["a"], "b.png": png["b"]})
    with tarfile.open(shard, "a") as tar:
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert [item.error for item in tar_items(shard)] == [
        None,
        None,
        f"{shard}/c.png is not a plain file of the archive",
    ]
    first, second, _ = tar_items(shard)
    shard.write_bytes(shard.read_bytes()[: second.image_path.offset + 20])
    assert colour_of(first)
    with pytest.raises(ImageError, match=r"b\.png is cut off: 20 of [\d,]+ bytes are there"):
        colour_of(second)
    shard.write_bytes(b"no tar at all" * 100)
    [broken] = tar_items(shard)
    assert str(broken.error).startswith(f"{shard} is no tar archive or damaged")


def test_a_member_too_large_for_any_image_is_not_read(tmp_path: Path, png: dict[str, bytes]) -> None:
    [item] = tar_items(make_tar(tmp_path / "s.tar", {"a.png": bytes(2**20 + 801)}))
    with pytest.raises(ImageError, match="more than an image of max_pixels could need"):
        open_location(item.image_path, item.image, max_pixels=100)


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_a_dataset_is_scored_like_its_files(
    tmp_path: Path, pictures: Path, tiny_scorer_folder: Path, kind: str
) -> None:
    import datasets

    paths = [str(path) for path in sorted(pictures.iterdir())]
    cells = [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]
    columns = {"image": cells, "reference": [*cells[1:], None], "label": list(range(7))}
    features = {"image": datasets.Image(), "reference": datasets.Image(), "label": datasets.Value("int64")}
    table = datasets.Dataset.from_dict(columns, datasets.Features(features))
    word = str(tmp_path / ("set" if kind == "saved" else "set.parquet"))
    if kind == "saved":
        table.save_to_disk(word)
    else:
        table.to_parquet(word)
    manifest = tmp_path / "m.csv"
    lines = [f"{a},{b}" for a, b in zip(paths, [*paths[1:], ""], strict=True)]
    manifest.write_text("\n".join(["image,reference", *lines]))
    out, plain = tmp_path / "out.csv", tmp_path / "plain.csv"
    report = tmp_path / "page.html"
    assert score([word], model=str(tiny_scorer_folder), out=str(out), report=str(report)) == 0
    assert score([str(manifest)], model=str(tiny_scorer_folder), out=str(plain)) == 0
    rows = read_predictions(out)
    assert [row.image for row in rows] == [f"{word}#{number}" for number in range(7)]
    assert rows[0].reference == f"{word}#0/reference"
    assert [row.score for row in rows] == [row.score for row in read_predictions(plain)]
    assert report.read_text(encoding="utf-8").count("data:image/webp") == 13


def test_a_cell_that_names_a_file_is_not_read(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": "/etc/hostname"}, None]}, features)
    table.to_parquet(tmp_path / "s.parquet")
    word = str(tmp_path / "s.parquet")
    assert [item.error for item in dataset_items(word)] == [
        f"{word}#0 holds no image, only the name /etc/hostname",
        f"{word}#1 holds no image",
    ]


def test_splits_are_chosen_by_name(tmp_path: Path, pictures: Path) -> None:
    import datasets

    features = datasets.Features({"picture": datasets.Image()})
    one = datasets.Dataset.from_dict({"picture": [str(pictures / "a.png")]}, features)
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "s")
    with pytest.raises(UserError, match="has the splits train, test: choose one with --split"):
        Source([str(tmp_path / "s")])
    assert len(list(Source([str(tmp_path / "s")], split="test"))) == 1


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (["s.tar", "a.png"], {}, "s.tar is a shard or a dataset: score it without files and folders"),
        (["s.tar"], {"reference": "a.png"}, "s.tar names its own references"),
        (["s.tar"], {"split": "test"}, "split 'test' goes with a dataset"),
        (["gone.tar"], {}, "gone.tar does not exist"),
        (["s.tar.gz"], {}, "s.tar.gz is compressed: unpack it to .tar"),
        (["gone/*.tar"], {}, r"gone/\*.tar names no file"),
        (["empty.tar"], {}, "empty.tar holds no image"),
        (["broken.parquet"], {}, "broken.parquet cannot be read as parquet"),
    ],
)
def test_words_that_do_not_go_together(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    png: dict[str, bytes],
    words: list[str],
    settings: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_tar(Path("s.tar"), {"a.png": png["a"]})
    make_tar(Path("empty.tar"), {"a.txt": b""})
    Path("a.png").write_bytes(png["a"])
    Path("broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=message):
        Source(words, **settings)


def test_a_pattern_of_shards(tmp_path: Path, png: dict[str, bytes]) -> None:
    for name in "ba":
        make_tar(tmp_path / f"{name}.tar", {"1.png": png[name]})
    assert [item.image for item in Source([str(tmp_path / "*.tar")])] == [
        f"{tmp_path / name}.tar/1.png" for name in "ab"
    ]
