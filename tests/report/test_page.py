"""The page is one file, in order, and no file name can break it."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from harmonyiqa.data.predictions import Prediction
from harmonyiqa.report.page import write_page
from harmonyiqa.scoring.items import Item
from harmonyiqa.scoring.summary import Summary


class Outline(HTMLParser):
    """What a browser would see: pictures, cards in order, scripts, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [found[attribute] for name, found in self.tags if name == tag and attribute in found]


def prediction(image: str, score: float, reference: str | None = None) -> Prediction:
    return Prediction(image, reference, score, "m")


def write(folder: Path, predictions: list[Prediction], shown: int = 100) -> Outline:
    path = folder / "page.html"
    items = [
        Item(p.image, p.reference, folder / p.image, folder / p.reference if p.reference else None)
        for p in predictions
    ]
    summary = Summary.of(predictions, shown)
    write_page(summary, items, path, title="A <title>", model_note="trained on synthetic scores")
    return Outline(path.read_text(encoding="utf-8"))


def test_worst_first_with_failures_apart(tmp_path: Path) -> None:
    failed = Prediction("broken.png", None, None, "m", "broken.png is an empty file")
    outline = write(
        tmp_path, [prediction("a.png", 60), failed, prediction("b.png", 20), prediction("c.png", 90)]
    )
    assert outline.values("li", "data-name") == ["b.png", "a.png", "c.png"]
    assert "broken.png is an empty file" in outline.text
    assert "A <title>" in outline.text
    assert "trained on synthetic scores" in outline.text
    assert "Histogram of 3 scores from 0 to 100, mean 56.67" in str(outline.values("svg", "aria-label"))


def test_pictures_are_inside_and_small_the_reference_first(tmp_path: Path) -> None:
    for name, colour in (("image.jpg", "red"), ("photo.jpg", "blue")):
        Image.new("RGB", (800, 400), colour).save(tmp_path / name)
    outline = write(tmp_path, [prediction("image.jpg", 50, "photo.jpg")])
    sources = outline.values("img", "src")
    assert outline.values("img", "alt") == ["reference of image.jpg", "image.jpg"]
    assert all(str(source).startswith("data:image/webp;base64,") for source in sources)
    assert all(len(str(source)) < 5000 for source in sources)


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    outline = write(tmp_path, [prediction("a.png", 50)])
    assert not [tag for tag, _ in outline.tags if tag in ("link", "iframe", "object")]
    assert outline.values("script", "src") == []
    assert "default-src 'none'" in str(outline.values("meta", "content"))


@pytest.mark.parametrize(
    "name",
    [
        '"><script>alert(1)</script>.png',
        'it\'s "quoted" & <b>bold</b>.png',
        "{{ 7 * 7 }}.png",
        "naïve 照片.png",
    ],
)
def test_odd_names_are_text(tmp_path: Path, name: str) -> None:
    plain = write(tmp_path, [prediction("a.png", 50), Prediction("b", None, None, "m", "b is bad")])
    odd = write(tmp_path, [prediction(name, 50), Prediction(name, None, None, "m", f"{name} is bad")])
    assert [tag for tag, _ in odd.tags if tag != "wbr"] == [tag for tag, _ in plain.tags]
    assert odd.values("li", "data-name") == [name]
    assert f"{name} is bad" in odd.text


def test_a_name_that_is_no_utf8_does_not_stop_the_page(tmp_path: Path) -> None:
    assert r"caf\udce9.png" in write(tmp_path, [prediction("caf\udce9.png", 50)]).text


def test_a_picture_that_is_gone_leaves_a_note(tmp_path: Path) -> None:
    assert "no preview" in write(tmp_path, [prediction("gone.png", 50)]).text


def test_a_long_list_is_cut_to_the_worst_and_says_so(tmp_path: Path) -> None:
    failed = [Prediction(f"bad{i}.png", None, None, "m", "broken") for i in range(3)]
    outline = write(tmp_path, [*failed, *(prediction(f"{i}.png", i) for i in range(5))], shown=2)
    assert "The first 2 of 3 are shown." in outline.text
    assert "bad1.png" in outline.text
    assert "bad2.png" not in outline.text
    assert outline.values("li", "data-name") == ["0.png", "1.png"]
    assert "The 2 worst of 5 are shown." in outline.text
    assert "Histogram of 5 scores" in str(outline.values("svg", "aria-label"))


def test_scores_beyond_the_scale_count_at_its_ends(tmp_path: Path) -> None:
    outline = write(
        tmp_path, [prediction("a", -3), prediction("b", 0), prediction("c", 100), prediction("d", 104)]
    )
    assert "0 to 5: 2" in outline.text
    assert "95 to 100: 2" in outline.text


def test_all_failed_and_none_at_all(tmp_path: Path) -> None:
    assert write(tmp_path, [Prediction("a", None, None, "m", "a is bad")]).values("svg", "role") == []
    assert write(tmp_path, []).values("li", "data-name") == []
