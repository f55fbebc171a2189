import pytest

from harmonyiqa.report.harmonization_table import PUBLISHED, matching_table
from harmonyiqa.report.paper import read_published

TABLES = {table.name: table for table in read_published(PUBLISHED)}


def test_every_table_of_the_paper_with_figures_is_there() -> None:
    assert list(TABLES) == [str(number) for number in range(1, 14)]


@pytest.mark.parametrize("name", ["1", "7"])
def test_all_is_the_mean_over_the_7404_test_images(name) -> None:
    """A figure read wrongly would not add up: All is the mean over images, weighted by the subsets' sizes."""
    images = {"HAdobe5k": 2160, "HCOCO": 4283, "Hday2night": 133, "HFlickr": 828}
    others = {
        "IIH",
        "D-HT+",
        "DCCF",
        "SCS-Co",
        "LCS",
    }  # in table 7: printed so, taken from papers that count otherwise
    for row in TABLES[name].rows:
        if name == "7" and row.name in others:
            continue
        for metric in ("fmse", "mse", "psnr"):
            values = [row.values[subset, metric] for subset in images]
            every = row.values["All", metric]
            if every is None or None in values:
                continue
            mean = sum(v * n for v, n in zip(values, images.values(), strict=True)) / 7404
            assert mean == pytest.approx(every, rel=0.02), (row.name, metric)


def test_aict_stands_in_every_table_with_one_figure() -> None:
    fmse = {name: table.rows[-1].values.get(("All", "fmse")) for name, table in TABLES.items()}
    assert {fmse[name] for name in ("1", "4", "5", "6")} == {228.43}
    assert all(table.rows[-1].key == "aict" for table in TABLES.values())


@pytest.mark.parametrize(
    ("subsets", "size", "over", "name"),
    [
        ({"HCOCO", "HFlickr"}, None, None, "1"),
        ({"HAdobe5k"}, None, None, "1"),
        ({"HAdobe5k"}, 2048, None, "2"),
        ({"ccHarmony"}, 256, None, "3"),
        ({"HCOCO"}, 256, None, "7"),
        ({"HAdobe5k"}, 1024, None, "8"),
        ({"HAdobe5k"}, None, "4096x2160", "9"),
        ({"HAdobe5k"}, None, "5120x2880", "10"),
        ({"HCOCO"}, 1024, None, None),
        ({"ccHarmony"}, None, None, None),
        ({"HCOCO", "mine"}, None, None, None),
        (set(), None, None, None),
    ],
)
def test_a_table_stands_beside_results_of_its_data_and_size_only(subsets, size, over, name) -> None:
    found = matching_table(subsets, "aict", size, over)
    assert (found and found.name) == name
    assert matching_table(subsets, "idih", size, over) is None
