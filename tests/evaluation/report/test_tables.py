"""The texts in the tables of a report."""

import math
from pathlib import Path

import pytest

from sesame.evaluation.report import tables
from sesame.evaluation.report.rows import ReportRow, Statistic
from sesame.evaluation.report.statistics import Comparison
from sesame.evaluation.report.summary import Summary
from tests.evaluation.report.made_report import made_report


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((70.26, 74.0), " [70.3,\u00a074.0]"), ((-316.6, 406.7), " [-100.0,\u00a0100.0]"), ((math.nan, math.nan), "")],
)
def test_an_interval_ends_where_scores_do(interval: tuple[float, float], expected: str) -> None:
    assert tables.between(interval) == expected


def test_a_difference_that_no_score_can_show_is_no_number() -> None:
    few = tables.comparison_cells(Comparison(0.1, 0.5, 1.0, 2), 0.5)
    assert few[-2:] == ["over 100", "no verdict below 5 seeds"]
    assert tables.comparison_cells(Comparison(0.1, 0.01, 30.0, 5), 0.001)[-2] == "2.9"


def test_every_seed_is_shown_with_mean_and_deviation(tmp_path: Path) -> None:
    statistic = Statistic((60.0, math.nan, 64.0), "median")
    row = ReportRow("RTE", {"pretrained": statistic})
    summary = Summary({"RTE": row}, {"RTE": {"accuracy": row}}, row, ["RTE"], {})
    assert tables.seed_rows(summary)[1:] == [
        ["RTE", "accuracy", "pretrained", "62.00", "2.83", "60.00, undefined, 64.00"]
    ]
    made_report(tmp_path, ["RTE"], seeds=3)
    for name in ("report.md", "report.html"):
        assert "standard deviation" in (tmp_path / name).read_text(encoding="utf-8")
