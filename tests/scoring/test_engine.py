"""The engine gives what the plain path gives, in order, and loses no image."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.errors import UserError
from harmonyiqa.model.inputs import Batch
from harmonyiqa.scoring import locations
from harmonyiqa.scoring.engine import predict
from harmonyiqa.scoring.items import Item, items_from_paths


def mixed_items(folder: Path) -> list[Item]:
    """NR and FR in turns, the references in turns too."""
    references = [None, folder / "a.png", folder / "b.png"]
    paths = sorted(folder.iterdir())
    return [
        Item(path.name, reference and reference.name, path, reference)
        for path, reference in zip(paths, references * 3, strict=False)
    ]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 0), (16, 0), (2, 1)])
def test_equals_the_plain_path_in_order(
    scorer: HarmonyIQA, pictures: Path, batch_size: int, workers: int
) -> None:
    items = mixed_items(pictures)
    predictions = predict(scorer, items, batch_size=batch_size, workers=workers)
    plain = [scorer.score(item.image_path, item.reference_path) for item in items]
    assert [(p.image, p.reference) for p in predictions] == [(i.image, i.reference) for i in items]
    assert [p.score for p in predictions] == pytest.approx(plain, abs=1e-3)
    assert len({round(score, 4) for score in plain if isinstance(score, float)}) == len(items)
    assert {p.model for p in predictions} == {scorer.name}


def test_workers_do_not_move_a_score(scorer: HarmonyIQA, pictures: Path) -> None:
    items = items_from_paths([pictures])
    assert predict(scorer, items, batch_size=3, workers=2) == predict(scorer, items, batch_size=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_files_are_rows_and_the_rest_is_scored(scorer: HarmonyIQA, pictures: Path, workers: int) -> None:
    whole = {p.image: p.score for p in predict(scorer, items_from_paths([pictures]))}
    (pictures / "b0.png").write_text("text")
    (pictures / "b1.png").touch()
    (pictures / "b2.png").write_bytes((pictures / "a.png").read_bytes()[:400])
    predictions = predict(scorer, items_from_paths([pictures]), batch_size=2, workers=workers)
    assert [Path(p.image).stem for p in predictions if p.error] == ["b0", "b1", "b2"]
    assert all(p.score is None and p.error and p.error.startswith(p.image) for p in predictions if p.error)
    scored = {p.image: p.score for p in predictions if p.error is None}
    assert scored == pytest.approx(whole, abs=1e-3)


def test_an_unreadable_reference_is_named(scorer: HarmonyIQA, pictures: Path) -> None:
    item = Item("a.png", "gone.png", pictures / "a.png", pictures / "gone.png")
    [prediction] = predict(scorer, [item])
    assert prediction.error == f"{pictures / 'gone.png'} does not exist"


def test_only_bad_images_and_no_images(scorer: HarmonyIQA, pictures: Path) -> None:
    known = Item("a.png", None, pictures / "a.png", None, "no reference named a.*")
    gone = Item("x.png", None, pictures / "x.png", None)
    assert [p.error for p in predict(scorer, [known, gone])] == [
        "no reference named a.*",
        f"{pictures / 'x.png'} does not exist",
    ]
    assert predict(scorer, []) == []


def test_the_pixel_limit_reaches_the_decoder(scorer: HarmonyIQA, pictures: Path) -> None:
    [prediction] = predict(scorer, items_from_paths([pictures / "a.png"]), max_pixels=100)
    assert "48 x 40 = 1,920 pixels, above the limit of 100" in str(prediction.error)


def test_an_unforeseen_failure_costs_one_image_only(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (7, 7)).save(pictures / "odd.png")
    prepare = scorer.inputs.prepare

    def fails_on_odd(image: Image.Image, reference: Image.Image | None = None) -> object:
        return prepare(image, reference) if image.width != 7 else 1 / 0

    monkeypatch.setattr(scorer.inputs, "prepare", fails_on_odd)
    predictions = predict(scorer, items_from_paths([pictures]))
    [failed] = [p for p in predictions if p.error]
    assert failed.error == f"{pictures / 'odd.png'} cannot be prepared: ZeroDivisionError: division by zero"
    assert len(predictions) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def one_bad(batch: Batch) -> torch.Tensor:
        return torch.tensor([value, 61.5])

    monkeypatch.setattr(scorer, "predict", one_bad)
    first, second = predict(scorer, items_from_paths([pictures / "a.png", pictures / "b.png"]))
    assert (first.score, first.error) == (None, f"the model returned {value}, which is no score")
    assert (second.score, second.error) == (61.5, None)


def test_a_sentence_without_a_number_is_an_error_never_a_score(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = ["The quality score is 63.40", "The quality score is fine", "The quality score is 250.00"]
    monkeypatch.setattr(scorer, "predict_text", lambda batch: sentences)
    paths = [pictures / f"{name}.png" for name in "abc"]
    predictions = predict(scorer, items_from_paths(paths), text=True)
    assert [p.score for p in predictions] == [63.4, None, None]
    assert predictions[1].error == "the model's sentence holds no score: 'The quality score is fine'"


def test_a_model_without_a_head_answers_in_text(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.settings.stage = 1
    monkeypatch.setattr(scorer, "predict_text", lambda batch: ["The quality score is 12.00"])
    [prediction] = predict(scorer, items_from_paths([pictures / "a.png"]))
    assert prediction.score == 12


def test_too_large_a_batch_says_what_to_lower(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(batch: Batch) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scorer, "predict", out_of_memory)
    with pytest.raises(UserError, match="7 images at a time do not fit into cpu: lower batch_size"):
        predict(scorer, items_from_paths([pictures]))


def test_neighbours_with_one_reference_decode_it_once(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    decode = locations.open_rgb

    def counted(path: Path, **settings: int) -> Image.Image:
        opened.append(path.name)
        return decode(path, **settings)

    monkeypatch.setattr(locations, "open_rgb", counted)
    predict(scorer, items_from_paths([pictures / "b.png", pictures / "c.png"], pictures / "a.png"))
    assert opened == ["a.png", "b.png", "c.png"]
