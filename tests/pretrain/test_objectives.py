"""Every line of the table of objectives has what the run, its report and its tests need."""

import pytest

from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.objectives import OBJECTIVES
from sesame.pretrain.roles import Objective
from tests.pretrain.family_runs import FAMILY_RUNS


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_has_all_of_its_role(name: str) -> None:
    objective = OBJECTIVES[name]
    declared = {*Objective.__annotations__, *(each for each in vars(Objective) if not each.startswith("_"))}
    assert declared
    assert [each for each in sorted(declared) if not hasattr(objective, each)] == []


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_labels_are_read_and_are_batch_columns(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.label_column in (*objective.reads, "tokens"), "every family reads tokens"
    assert set(objective.reads) <= COLUMNS.keys()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_in_a_run_of_a_family(name: str) -> None:
    assert any(name in run.objectives for run in FAMILY_RUNS.values()), f"add {name} to tests/pretrain/family_runs.py"
