import math

import pytest

from harmonyiqa.data.readers.common import Scale, counted
from harmonyiqa.errors import UserError


def test_mos_is_0_at_the_worst_and_100_at_the_best_whichever_is_larger() -> None:
    assert [Scale(1, 5).mos(s) for s in (1, 3, 5)] == [0, 50, 100]
    assert [Scale(1, 0).mos(s) for s in (1, 0.25, 0)] == [0, 75, 100]
    assert Scale(1, 0).mos_std("0.1") == pytest.approx(10)
    assert Scale(1, 0).mos_std("n/a") is None


@pytest.mark.parametrize("cell", ["abc", None, "", "nan", "inf", "5.1", 0.9, math.nan])
def test_what_is_no_score_on_the_scale_is_none(cell: object) -> None:
    assert Scale(1, 5).parse(cell) is None


def test_a_scale_of_one_point_is_refused() -> None:
    with pytest.raises(UserError, match="worst 3 and best 3 must be two different numbers"):
        Scale(3, 3)


def test_names_beyond_twenty_are_counted() -> None:
    assert counted([], "x") == []
    assert counted(["a", "b"], "are missing") == ["2 are missing: a, b"]
    assert counted([str(i) for i in range(23)], "are missing")[0].endswith("18, 19 and 3 more")
