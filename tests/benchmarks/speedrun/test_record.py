"""Records: scores from reports, means, and what is compared when one is computed again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speedrun import trials
from benchmarks.speedrun.checking import compare, find
from benchmarks.speedrun.presentation import END, RECORDS, TRIALS, figure_of, table, write_tables
from benchmarks.speedrun.record import Record, enter, joined, read_records, read_scores
from sesame.configs.errors import ConfigError

Make = Callable[..., Record]


def report(path: Path, scores: dict[str, tuple[float, float | None]], random: float | None = None) -> Path:
    """Write a report of an evaluation with (mean, standard deviation) of each task."""
    tasks = {}
    for task, (mean, std) in scores.items():
        score: dict[str, Any] = {"pretrained": {"mean": mean, "std": std}}
        if random is not None:
            score["random"] = {"mean": random, "std": 0.1}
        title = f"{task} (thinned)"
        tasks[title] = {"task": task, "score": score, "train_rows": 10, "dev_rows": {"": 4, "mm": 5}}
    path.write_text(json.dumps({"tasks": tasks}))
    return path


def test_scores_are_means_over_seeds_of_fine_tuning(tmp_path: Path) -> None:
    glue = {"CoLA": 10.0, "SST-2": 80.0, "MRPC": 70.0, "STS-B": 60.0, "RTE": 50.0}
    reports = [
        [
            report(tmp_path / f"glue{seed}", {task: (mean + seed, 1.0 + seed) for task, mean in glue.items()}, 40.0),
            report(tmp_path / f"blimp{seed}", {"BLiMP": (60.0 - seed, None)}),
        ]
        for seed in range(3)
    ]
    scores = read_scores(reports)
    assert scores["RTE"].by_seed == (50.0, 51.0, 52.0) and scores["RTE"].spread == 2.0
    assert (scores["RTE"].finetuning_std, scores["RTE"].random_init, scores["RTE"].note) == (2.0, 40.0, "(thinned)")
    assert (scores["RTE"].train_rows, scores["RTE"].dev_rows) == (10, 9)
    assert scores["BLiMP"].mean == 59.0 and scores["BLiMP"].finetuning_std is None
    assert scores["GLUE-5"].by_seed == (54.0, 55.0, 56.0) and scores["GLUE-5"].random_init == 40.0
    assert "GLUE-9" not in scores, "four of its tasks were not scored"


def test_a_task_in_two_suites_is_an_error(tmp_path: Path) -> None:
    reports = [report(tmp_path / name, {"CoLA": (10.0, 1.0)}) for name in ("one", "two")]
    with pytest.raises(ConfigError, match="two: another suite has CoLA as well; remove it from one of them"):
        read_scores([reports])


def test_records_are_kept_as_lines(make_record: Make, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records = [make_record({"BLiMP": (60.0, 62.0, 61.0)}), make_record({"BLiMP": (1.0,)}, marks=("own text",))]
    for record in (*records, records[0]):
        enter(path, record)
    assert read_records(path) == records and len(path.read_text().splitlines()) == 2
    path.write_text(path.read_text() + '{"recipe": 3}\n')
    with pytest.raises(ConfigError, match=r"records\.jsonl:3"):
        read_records(path)


def of_seeds(record: Record, *seeds: int) -> Record:
    """Return what a run of some of a record's seeds would have entered."""
    places = [number for number, run in enumerate(record.runs) if run.seed in seeds]
    scores = {
        task: score.model_copy(update={"by_seed": tuple(score.by_seed[place] for place in places)})
        for task, score in record.scores.items()
    }
    return record.model_copy(update={"runs": tuple(record.runs[place] for place in places), "scores": scores})


def test_seeds_that_were_trained_apart_are_one_record(make_record: Make) -> None:
    glue = dict.fromkeys(("CoLA", "SST-2", "MRPC", "STS-B", "RTE"), (10.0, 20.0, 60.0))
    whole = make_record({"BLiMP": (60.0, 62.0, 61.0), **glue})
    other = make_record({"BLiMP": (50.0,)}, recipe="other")
    assert joined([of_seeds(whole, 3), other, of_seeds(whole, 1, 2)]) == [other, whole]
    assert [of_seeds(whole, *seeds).remarks for seeds in ((1, 2, 3), (1, 3), (2,))] == [(), ("2 seeds",), ("1 seed",)]
    again = make_record({"BLiMP": (1.0, 2.0, 3.0), **glue})
    (mixed,) = joined([whole, of_seeds(again, 2).model_copy(update={"code": "later", "date": "2026-03-03"})])
    assert mixed.scores["BLiMP"].by_seed == (60.0, 2.0, 61.0), "of a seed the later line counts"
    assert (mixed.code, mixed.date) == ("c and later", "2026-03-03")


def test_what_depends_on_the_seeds_is_their_mean(make_record: Make) -> None:
    record = make_record({"BLiMP": (60.0, 62.0)})
    parts = []
    for seed, (deviation, random) in enumerate([(1.0, 50.0), (2.0, 51.0)], 1):
        part = of_seeds(record, seed)
        score = part.scores["BLiMP"].model_copy(update={"finetuning_std": deviation, "random_init": random})
        parts.append(part.model_copy(update={"scores": {"BLiMP": score}}))
    (joint,) = joined(parts)
    assert (joint.scores["BLiMP"].finetuning_std, joint.scores["BLiMP"].random_init) == (1.5, 50.5)


@pytest.mark.parametrize("name", ["recipe_sha256", "text_sha256", "suites_sha256", "processor", "threads", "minutes"])
def test_seeds_of_other_conditions_stay_apart(make_record: Make, name: str) -> None:
    record = make_record({"BLiMP": (60.0, 62.0, 61.0)})
    other = of_seeds(record, 3).model_copy(update={name: 7 if name in ("threads", "minutes") else "other"})
    assert len(joined([of_seeds(record, 1, 2), other])) == 2


def test_seeds_with_other_steps_or_rows_stay_apart(make_record: Make) -> None:
    record = make_record({"BLiMP": (60.0, 62.0)})
    longer = record.runs[1].model_copy(update={"steps": 101})
    fewer = record.scores["BLiMP"].model_copy(update={"dev_rows": 7, "by_seed": (62.0,)})
    for change in ({"runs": (longer,)}, {"scores": {"BLiMP": fewer}}):
        assert len(joined([of_seeds(record, 1), of_seeds(record, 2).model_copy(update=change)])) == 2


def test_a_record_of_the_same_bytes_is_confirmed(make_record: Make) -> None:
    record = make_record({"BLiMP": (60.0, 62.0, 61.0)})
    found = compare(record, record.model_copy(update={"date": "2026-05-05"}))
    assert found.is_confirmed and "3 of 3 seeds have the same bytes" in found.lines[1]


def test_other_bytes_on_the_same_processor_are_not_confirmed(make_record: Make) -> None:
    record = make_record({"BLiMP": (60.0, 62.0, 61.0)})
    runs = tuple(run.model_copy(update={"weights_sha256": "f" * 64}) for run in record.runs)
    found = compare(record, record.model_copy(update={"runs": runs}))
    assert not found.is_confirmed and "so bytes must be the same" in found.lines[2]
    elsewhere = compare(record, record.model_copy(update={"runs": runs, "processor": "Other"}))
    assert elsewhere.is_confirmed, "the scores are equal"
    on_gpu = record.model_copy(update={"track": "gpu-2m"})
    assert compare(on_gpu, on_gpu.model_copy(update={"runs": runs})).is_confirmed, "the scores are equal"


def test_other_scores_of_the_same_bytes_are_not_confirmed(make_record: Make) -> None:
    record = make_record({"BLiMP": (60.0, 62.0, 61.0)})
    found = compare(record, record.model_copy(update={"scores": make_record({"BLiMP": (66.0, 66.0, 66.0)}).scores}))
    assert not found.is_confirmed and "BEYOND the spread" in found.lines[-1]


@pytest.mark.parametrize(("scores", "confirmed"), [((61.9, 62.9, 62.1), True), ((63.2, 63.4, 63.1), False)])
def test_elsewhere_the_scores_must_be_within_the_spread(
    make_record: Make, scores: tuple[float, ...], confirmed: bool
) -> None:
    record = make_record({"BLiMP": (60.0, 62.0, 61.0)})
    found = compare(record, make_record({"BLiMP": scores}, processor="Other"))
    assert found.is_confirmed == confirmed and "spread of 2.0" in found.lines[-1]


def test_other_datasets_confirm_nothing(make_record: Make) -> None:
    record = make_record({"BLiMP": (60.0, 62.0)})
    found = compare(record, record.model_copy(update={"datasets": {"text": "other"}}))
    assert not found.is_confirmed and "datasets: DIFFERENT" in found.lines


def test_the_last_record_of_a_recipe_is_checked(make_record: Make) -> None:
    old, new = (make_record({"BLiMP": (60.0,)}, date=date) for date in ("2026-01-01", "2026-01-02"))
    assert find([old, new], "plain", "cpu-30m", Path("r.jsonl")) is new
    with pytest.raises(ConfigError, match="has no record of muon on cpu-30m; it has plain on cpu-30m"):
        find([old], "muon", "cpu-30m", Path("r.jsonl"))


def test_the_table_has_the_best_first_and_proofs_last(make_record: Make) -> None:
    records = [
        make_record({"BLiMP": (70.0,)}, recipe="cut", marks=("cut to 3 of 30 minutes",)),
        make_record({"BLiMP": (60.0, 62.0, 61.0)}, recipe="worse"),
        make_record({"BLiMP": (64.0, 65.0, 64.5)}, recipe="better"),
    ]
    lines = table(records).splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["better", "worse", "cut"]
    assert "64.5 (1.0)" in lines[0] and "| 29.3 | 2e+14 | 1.0 M |" in lines[0]
    assert lines[2].endswith("cut to 3 of 30 minutes; 1 seed |")


def test_both_tables_are_replaced(make_record: Make, tmp_path: Path) -> None:
    readme, made = tmp_path / "README.md", [make_record({"BLiMP": (60.0,)})]
    readme.write_text(f"before\n{RECORDS}\nold\n{END}\nbetween\n{TRIALS}\nold\n{END}\nafter\n")
    write_tables(made, [], readme)
    nothing = f"{TRIALS}\nNothing was tried yet.\n{END}"
    assert readme.read_text() == f"before\n{RECORDS}\n{table(made)}\n{END}\nbetween\n{nothing}\nafter\n"
    write_tables([], made, readme)
    tried = f"{TRIALS}\n{trials.table(made)}\n{END}"
    assert readme.read_text().endswith(f"No record was entered yet.\n{END}\nbetween\n{tried}\nafter\n")


@pytest.mark.parametrize("missing", [RECORDS, TRIALS, END])
def test_a_file_without_a_comment_keeps_its_text(make_record: Make, tmp_path: Path, missing: str) -> None:
    readme = tmp_path / "README.md"
    text = f"before\n{RECORDS}\n{END}\nbetween\n{TRIALS}\n{END}\nafter\n".replace(missing, "", 1)
    readme.write_text(text)
    with pytest.raises(ConfigError, match=r"README\.md: needs <!-- table of records"):
        write_tables([make_record({"BLiMP": (60.0,)})], [], readme)
    assert readme.read_text() == text


def test_the_picture_has_a_point_for_each_score(make_record: Make) -> None:
    glue = dict.fromkeys(("CoLA", "SST-2", "MRPC", "STS-B", "RTE"), (50.0, 60.0, 55.0))
    records = [make_record({"BLiMP": (60.0, 62.0, 61.0), **glue}), make_record({"BLiMP": (55.0,)}, recipe="b")]
    blimp, five = figure_of(records).axes
    points: list[Any] = [bar[0] for bar in blimp.containers]
    assert [(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in points] == [(2e14, 61.0), (1e14, 55.0)]
    assert [p.get_markerfacecolor() == "none" for p in points] == [False, True]
    assert len(five.containers) == 1 and _height(five.containers[0]) == 55.0


def _height(bar: Any) -> float:
    return float(bar[0].get_ydata()[0])
