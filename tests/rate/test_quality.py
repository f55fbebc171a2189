"""Careless raters are found, careful ones are left alone."""

from dataclasses import replace

import pytest
from scipy.stats import spearmanr

from harmonyiqa.data.manifest import read_manifest, relocated, write_manifest
from harmonyiqa.rate.quality import rater_reports, votes
from tests.rate.simulate import rate_all

CHARACTERS = {1: "good", 2: "good", 3: "good", 4: "good", 5: "random", 6: "same", 7: "fast"}


@pytest.fixture(scope="module")
def golden(scenes, tmp_path_factory):
    """Four images of the best method: only good ratings are right."""
    path = tmp_path_factory.mktemp("golden") / "golden.csv"
    rows = [row for row in relocated(read_manifest(scenes), path) if row.method == "first"][:4]
    write_manifest([replace(row, extra={"low": 4.0, "high": 5.0}) for row in rows], path)
    return path


@pytest.fixture
def rated(make_study, golden):
    store = make_study(raters=8, repeats=8, golden=golden)
    rate_all(store, CHARACTERS, sigma=0.4)
    return store


def test_the_careless_are_found_with_reasons_and_nobody_else(rated) -> None:
    reports = {int(report.rater[1:]): report for report in rater_reports(rated)}
    found = {rater: " ".join(report.suspicions) for rater, report in reports.items() if report.suspicions}
    assert set(found) == {5, 6, 7}, found
    assert "agrees little" in found[5]
    assert "rates the same image differently" in found[5]
    assert "nearly always the same answer (100%)" in found[6]
    assert "misses known answers (0 of 4 right)" in found[6]
    assert found[7] == "very fast (0.3 s an image)"


def test_figures_of_a_report(rated) -> None:
    good, idle = rater_reports(rated)[0], rater_reports(rated)[7]
    assert (good.done, good.total, good.sessions, good.golden) == (36, 36, 1, 4)
    assert 2 <= good.seconds <= 6
    assert good.drift <= 1
    assert sum(good.counts) == 36
    assert (idle.done, idle.seconds, idle.agreement, idle.drift, idle.suspicions) == (0, None, None, None, ())


def test_agreement_is_spearmans_with_the_mean_of_the_others(rated) -> None:
    given = [vote for vote in votes(rated) if vote.kind == "rating"]
    mine = {vote.image: vote.value for vote in given if vote.rater == "r01"}
    others = {image: [v.value for v in given if v.image == image and v.rater != "r01"] for image in mine}
    expected = spearmanr(list(mine.values()), [sum(v) / len(v) for v in others.values()]).statistic
    assert rater_reports(rated)[0].agreement == pytest.approx(expected)


def test_little_work_is_not_judged(make_study) -> None:
    store = make_study()
    assert all(not report.suspicions for report in rater_reports(store))
