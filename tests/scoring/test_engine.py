"""The engine gives what the plain path gives, in order, and loses no image."""

import math
import resource
from itertools import cycle
from pathlib import Path

import pytest
import torch
from PIL import Image

from harmonyiqa import HarmonyIQA
from harmonyiqa.model.backbone import image_processor
from harmonyiqa.scoring import engine
from harmonyiqa.scoring.engine import choose_batches, predict
from harmonyiqa.scoring.items import Item, items_from_paths
from harmonyiqa.scoring.locations import Encoded, Part


def mixed_items(folder: Path) -> list[Item]:
    """NR and FR in turns, the references in turns too."""
    references = [None, folder / "a.png", folder / "b.png"]
    paths = sorted(folder.iterdir())
    return [
        Item(path.name, reference and reference.name, path, reference)
        for path, reference in zip(paths, cycle(references))
    ]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 0), (16, 0), (2, 1)])
def test_equals_the_plain_path_in_order(
    scorer: HarmonyIQA, pictures: Path, batch_size: int, workers: int
) -> None:
    items = mixed_items(pictures)
    predictions = predict(scorer, items, batch_size=batch_size, workers=workers)
    plain = [scorer.score(item.image_path, item.reference_path) for item in items]
    assert [(p.image, p.reference) for p in predictions] == [(i.image, i.reference) for i in items]
    assert [p.score for p in predictions] == pytest.approx(plain, abs=3e-5)
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
    assert scored == pytest.approx(whole, abs=3e-5)


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
    cut = scorer.inputs.cut
    monkeypatch.setattr(scorer.inputs, "cut", lambda image: cut(image) if image.width != 7 else 1 / 0)
    predictions = predict(scorer, items_from_paths([pictures]))
    [failed] = [p for p in predictions if p.error]
    assert failed.error == f"{pictures / 'odd.png'} cannot be prepared: ZeroDivisionError: division by zero"
    assert len(predictions) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(scorer, "read_scores", lambda slot: torch.tensor([value, 61.5]))
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


def test_a_call_that_does_not_fit_is_made_in_parts(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = mixed_items(pictures)
    whole = [prediction.score for prediction in predict(scorer, items)]
    read = scorer.read_scores
    sizes = []

    def only_two(slot: torch.Tensor) -> torch.Tensor:
        sizes.append(len(slot))
        if len(slot) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(slot)

    monkeypatch.setattr(scorer, "read_scores", only_two)
    assert [prediction.score for prediction in predict(scorer, items)] == pytest.approx(whole, abs=1e-5)
    assert max(sizes) > 2


def test_an_image_too_large_for_the_memory_is_a_row_with_its_reason(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(slot: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scorer, "read_scores", out_of_memory)
    [prediction] = predict(scorer, items_from_paths([pictures / "a.png"]))
    assert prediction.score is None
    assert str(prediction.error).startswith("not enough memory for this image alone (")


def test_scores_do_not_depend_on_who_else_is_scored_in_fr(scorer: HarmonyIQA, pictures: Path) -> None:
    """References that are shared, and those that are not."""
    paths = sorted(pictures.iterdir())
    items = [Item(a.name, b.name, a, b) for b in paths[:3] for a in paths]
    scores = {(p.image, p.reference): p.score for p in predict(scorer, items)}
    for item in (items[0], items[9], items[20]):
        plain = scorer.score(item.image_path, item.reference_path)
        assert scores[item.image, item.reference] == pytest.approx(plain, abs=1e-5)


def test_neighbours_with_one_reference_decode_it_once(
    scorer: HarmonyIQA, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    decode = engine.open_location

    def counted(path: Path, name: str, **settings: int) -> Image.Image:
        opened.append(path.name)
        return decode(path, name, **settings)

    monkeypatch.setattr(engine, "open_location", counted)
    predict(scorer, items_from_paths([pictures / "b.png", pictures / "c.png"], pictures / "a.png"))
    assert opened == ["a.png", "b.png", "c.png"]


def test_images_that_cost_alike_share_a_call_wherever_they_lie(scorer: HarmonyIQA, tmp_path: Path) -> None:
    scorer.inputs.image_processor = image_processor(32, 6)
    data = {}
    for name, width in (("small", 32), ("wide", 96)):
        Image.new("RGB", (width, 32)).save(tmp_path / f"{name}.png")
        data[name] = (tmp_path / f"{name}.png").read_bytes()
    (tmp_path / "both").write_bytes(data["small"] + data["wide"])
    size = len(data["small"])
    locations = [
        tmp_path / "small.png",
        tmp_path / "wide.png",
        Encoded(data["wide"]),
        Part(tmp_path / "both", 0, size),
        Part(tmp_path / "both", size, len(data["wide"])),
        tmp_path / "gone.png",
    ]
    items = [Item(f"{i}", None, location, None) for i, location in enumerate(locations)]
    window = list(enumerate([*items, Item("6", None, tmp_path, None, "known to be bad")]))
    chosen = choose_batches(scorer.inputs, window, 2048)
    assert [[place for place, _ in batch] for batch, _ in chosen] == [[0, 3, 5], [1, 2, 4], [6]]
    assert chosen[1][1] - chosen[0][1] == 3 * 3 * scorer.inputs.tokens_per_tile  # three tiles more each
    assert chosen[2][1] == 0
    by_two = choose_batches(scorer.inputs, window, 2048, 2)
    assert [[place for place, _ in batch] for batch, _ in by_two] == [[0, 3], [5], [1, 2], [4], [6]]
    alone = choose_batches(scorer.inputs, window, 1)
    assert [len(batch) for batch, _ in alone] == [1] * 7
    scores = [prediction.score for prediction in predict(scorer, items)]
    assert scores[3] == pytest.approx(scores[0], abs=1e-4)
    assert [scores[2], scores[4]] == pytest.approx([scores[1]] * 2, abs=1e-4)
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)
    assert scores[5] is None


def test_a_worker_sends_a_batch_as_one_tensor(scorer: HarmonyIQA, pictures: Path) -> None:
    """A tensor is a file handle on the way, and a process has a thousand at most by default."""
    tiles = torch.arange(7 * 3 * 32 * 32, dtype=torch.float32).reshape(7, 3, 32, 32)
    examples = [scorer.inputs.ask(tiles[:1]), scorer.inputs.ask(tiles[1:5], tiles[5:])]
    sent = engine.Ready(4, [4, 6], examples, {5: "broken"}, {4: "a", 5: "", 6: "b"})
    make, given = sent.__reduce__()
    assert sum(isinstance(part, torch.Tensor) for part in given) == 1
    back = make(*given)
    assert (back.first, back.positions, back.failed) == (4, [4, 6], {5: "broken"})
    assert back.fingerprints == sent.fingerprints
    for mine, theirs in zip(back.examples, examples, strict=True):
        assert (mine.mode, mine.question, mine.reference_tiles) == (
            theirs.mode,
            theirs.question,
            theirs.reference_tiles,
        )
        assert torch.equal(mine.pixel_values, theirs.pixel_values)
    make, given = engine.Ready(4, [], [], {4: "broken"}, {4: ""}).__reduce__()
    assert make(*given) == engine.Ready(4, [], [], {4: "broken"}, {4: ""})


def test_more_images_a_call_than_file_handles(scorer: HarmonyIQA, pictures: Path) -> None:
    paths = cycle(sorted(pictures.iterdir()))
    items = [Item(f"{i}", None, next(paths), None) for i in range(300)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (min(soft, len(list(Path("/proc/self/fd").iterdir())) + 60), hard)
    )
    try:
        predictions = predict(scorer, items, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(prediction.score is not None for prediction in predictions)


@pytest.mark.gpu
def test_batches_wait_in_pinned_memory(scorer: HarmonyIQA, pictures: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    ready = engine.Ready(0, [0], [scorer.prepare(Image.open(pictures / "a.png"))], {}, {0: "a"})
    [example] = ready.pin_memory().examples
    assert example.pixel_values.is_pinned()
    assert torch.equal(example.pixel_values, ready.examples[0].pixel_values)
