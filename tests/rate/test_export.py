"""What leaves a study: ratings that `harmonyiqa mos` reads, checks, raters; from there to an evaluation."""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

from harmonyiqa import cli
from harmonyiqa.data.manifest import read_manifest
from harmonyiqa.data.predictions import Prediction, write_predictions
from harmonyiqa.data.tables import read_table
from harmonyiqa.rate.course import Course
from harmonyiqa.rate.export import RATING_COLUMNS, write_tables
from harmonyiqa.rate.settings import StudySettings
from tests.rate.conftest import SCREEN
from tests.rate.simulate import rate_all, true_quality


def test_ratings_are_one_row_a_rater_and_image(make_study, scenes, tmp_path) -> None:
    store = make_study(sessions=3, repeats=4, training=scenes)
    rate_all(store, {1: "good", 2: "good"})
    lines = write_tables(store, tmp_path / "out" / "ratings.csv")
    assert lines == [f"{tmp_path / 'out' / 'ratings.csv'}: 48 ratings"]
    rows = read_table(tmp_path / "out" / "ratings.csv")
    assert tuple(rows[0]) == RATING_COLUMNS
    names = {row.image for row in read_manifest(scenes).rows}
    assert Counter((row["rater"], row["image"]) for row in rows) == {
        (r, n): 1 for r in ("r01", "r02") for n in names
    }
    assert {row["session"] for row in rows} == {"1", "2", "3"}
    assert all(1 <= int(row["rating"]) <= 5 for row in rows)
    assert [int(row["order"]) for row in rows[:2]] == [25, 26], "training came before"
    times = [datetime.fromisoformat(str(row["time"])) for row in rows if row["rater"] == "r01"]
    assert times == sorted(times)
    assert rows[0]["screen"] == "1920x1080"
    assert rows[0]["window"] == "1280x720"
    checks = read_table(tmp_path / "out" / "ratings_checks.csv")
    assert Counter(row["kind"] for row in checks) == {"repeat": 8}
    first = {(row["rater"], row["image"]): row["rating"] for row in rows}
    assert all(row["first"] == first[row["rater"], row["image"]] for row in checks)
    assert len(read_table(tmp_path / "out" / "ratings_raters.csv")) == 2


def test_the_vote_after_going_back_counts(make_study, tmp_path) -> None:
    store = make_study()
    course = Course(store, StudySettings())
    course.consent(1, 0)
    course.start_session(1, json.dumps(SCREEN), 0)
    course.vote(1, 1, 0, 5, 900, 1)
    course.vote(1, 1, 1, 2, 900, 2)
    write_tables(store, tmp_path / "ratings.csv")
    (row,) = read_table(tmp_path / "ratings.csv")
    assert (row["rating"], row["changes"]) == ("2", "1")


def test_a_study_without_votes_gives_empty_tables(make_study, tmp_path) -> None:
    write_tables(make_study(), tmp_path / "ratings.csv")
    assert (tmp_path / "ratings.csv").read_text().strip() == ",".join(RATING_COLUMNS)
    assert not (tmp_path / "ratings_checks.csv").exists()


def test_pairs_give_the_ranking_of_methods(make_study, tmp_path) -> None:
    store = make_study(mode="pairs", raters=3, sessions=2)
    rate_all(store, {1: "good", 2: "good", 3: "good"}, sigma=1.0)
    lines = write_tables(store, tmp_path / "comparisons.csv")
    assert lines[0].endswith("72 comparisons")
    assert [line.split()[-1] for line in lines[1:]] == ["first", "second", "third"]
    rows = read_table(tmp_path / "comparisons.csv")
    assert len(rows) == 3 * 8 * 3
    assert {row["side"] for row in rows} == {"left", "right"}
    assert all(row["winner_method"] != row["loser_method"] for row in rows)
    scores = read_table(tmp_path / "comparisons_scores.csv")
    assert [row["method"] for row in scores] == ["first", "second", "third"]
    assert float(scores[0]["low"]) < float(scores[0]["score"]) < float(scores[0]["high"])


def test_from_a_study_to_an_evaluation(make_study, scenes, tmp_path, capsys) -> None:
    """export -> mos -> manifest -> evaluate, with careless raters among good ones."""
    store = make_study(raters=10, repeats=8)
    rate_all(store, dict.fromkeys(range(1, 11), "good") | {4: "random", 7: "same"})
    ratings, raters, labelled, predicted, numbers = (
        str(tmp_path / name)
        for name in ("ratings.csv", "raters.csv", "rated.csv", "predictions.csv", "e.json")
    )
    assert cli.main(["rate", "export", str(store.folder), "--out", ratings]) == 0
    said = capsys.readouterr().out.splitlines()[1:]
    assert {line.split(":")[0] for line in said} == {"r04", "r07"}, said

    words = ["mos", ratings, "--manifest", str(scenes), "--out", labelled, "--raters", raters]
    assert cli.main(words) == 0
    careless = {row["rater"] for row in read_table(raters) if row["rejected"] or row["flags"]}
    assert careless == {"r04", "r07"}, said
    rows = read_manifest(labelled).rows
    assert all(row.extra["mos_low"] < row.mos < row.extra["mos_high"] for row in rows)
    assert cli.main(["data", "check", "--manifest", labelled]) == 0, "every image and partner is found"
    assert all(row.reference and row.composite and row.method and row.content for row in rows)

    quality = {Path(image.name).name: true_quality(store)[image.id] for image in store.images.values()}
    write_predictions(
        [Prediction(row.image, row.reference, quality[Path(row.image).name], "truth") for row in rows],
        predicted,
    )
    words = ["evaluate", "--predictions", predicted, "--manifest", labelled, "--bootstrap", "50"]
    assert cli.main([*words, "--out_json", numbers]) == 0
    results = json.loads(Path(numbers).read_text())["results"]
    srcc = next(r["cells"]["srcc"]["value"] for r in results if r["predictor"] == "truth, FR")
    assert srcc > 0.9, "people's MOS has the order that was planted"
