"""The driver without its programs: which commands it starts, that it goes on after a kill, and how long a run is."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speedrun import __main__ as command
from benchmarks.speedrun import run as driver
from benchmarks.speedrun.commands import Deadline, Paused, execute
from benchmarks.speedrun.options import Options
from benchmarks.speedrun.record import Record, joined, read_records
from benchmarks.speedrun.run import Run
from benchmarks.speedrun.tracks import TRACKS
from benchmarks.speedrun.trainers import TRAINERS, Job, Trained, Trainer, start_seconds
from sesame import configs
from sesame.configs.errors import ConfigError, SesameError, TrainingError

SECONDS_PER_STEP = 3.0
COMMANDS = 20
"""Of a run with three seeds."""


class Programs:
    """In place of the programs that the driver starts: write what the driver reads of their results."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = SECONDS_PER_STEP, start: float = 0.0):
        self.started: list[str] = []
        self.commands_of: dict[str, Sequence[str]] = {}
        self.pause_at = -1
        self.seconds, self.start = seconds, start
        monkeypatch.setattr(driver, "execute", self.execute)
        monkeypatch.setitem(TRAINERS, "sesame", Trainer(self.commands, self.result, lambda recipe: 2))
        monkeypatch.setattr(driver.os, "sched_setaffinity", lambda process, cores: None)

    def execute(self, command: Sequence[str], title: str, log: Path, deadline: Deadline) -> None:
        if len(self.started) == self.pause_at:
            self.pause_at = -1
            raise Paused
        self.started.append(title.partition(": ")[2])
        self.commands_of[self.started[-1]] = command
        if command[0] == "train":
            return
        name = command[3]
        if command[2] == "benchmarks.speedrun.held_out":
            Path(command[5]).write_text('{"nats_per_word": 5.5, "words": 9, "documents_sha256": "h"}')
        elif name == "prepare":
            folder = Path(command[4]).with_suffix("")
            folder.mkdir()
            shard = {"sha256": folder.name, "rows": 1}
            manifest = {
                "recipe": {"segment": {"dupe_factor": 1}}, "tokenizer": {"sha256": "t"},
                "splits": {"train": {"tokens": 20, "shards": [shard]}},
            }  # fmt: skip
            (folder / "manifest.json").write_text(json.dumps(manifest))
        else:
            output = Path(command[command.index("--output") + 1])
            score = {"pretrained": {"mean": 50.0, "std": 1.0}}
            values = {"score": score, "train_rows": None, "dev_rows": {"": 9}}
            tasks = {name: {"task": name, **values} for name in configs.read(Path(command[4]))["suite"]["tasks"]}
            (output / "report.json").write_text(json.dumps({"tasks": tasks}))

    def commands(self, job: Job) -> list[list[str]]:
        return [["train"]]

    def result(self, job: Job) -> Trained:
        steps = job.limit.steps or round(60 * (job.limit.minutes or 0) / SECONDS_PER_STEP)
        rate = job.recipe.pretrain.get("rate", 1.0)
        seconds = SECONDS_PER_STEP if job.limit.minutes else self.seconds
        weights = f"{job.seed}-{steps}-{rate}".ljust(64, "x")
        minutes, start = (self.start + steps * seconds) / 60, self.start / 60
        return Trained(steps, minutes, 40.0, 1e12, abs(rate - 2.0), weights, str(job.folder), start_minutes=start)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    """``make(recipe changes, options)``: a run on the track of thirty minutes."""
    (tmp_path / "corpus").mkdir(exist_ok=True)
    (tmp_path / "corpus" / "a.jsonl").write_text('{"id": 1, "text": "ten words of text"}\n')
    from benchmarks.speedrun.document_list import make_list

    make_list(tmp_path / "corpus", tmp_path / "list.tsv", 100)

    def run(recipe: str = "", **options: Any) -> Run:
        path = tmp_path / "mine.toml"
        path.write_text(f'about = "a test"\n{recipe}\n[corpora.text]\n[pretrain]\nrate = 1.0\n')
        folders = {"text": tmp_path / "corpus", "evaluation": tmp_path, "work": tmp_path / "work"}
        files = {name: tmp_path / f"{name}.jsonl" for name in ("records", "trials")}
        given = {**folders, **files, "list": tmp_path / "list.tsv", **options}
        return Run(path, "cpu-30m", TRACKS["cpu-30m"], Options(**given))

    return run


def test_a_run_is_prepared_paced_trained_evaluated_and_entered_once(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(monkeypatch)
    record = make().run()
    assert record is not None
    evaluated = [f"evaluate, seed {n}, {suite}" for n in (1, 2, 3) for suite in ("blimp", "glue_large", "glue_small")]
    assert programs.started == [
        "prepare text", "train, pace", "train, seed 1", "train, seed 2", "train, seed 3",
        *(f"measure, seed {n}, held-out words" for n in (1, 2, 3)),
        *(f"evaluate, seed {n}, blimp_one_pass" for n in (1, 2, 3)),
        *evaluated,
    ]  # fmt: skip
    assert len(programs.started) == COMMANDS
    assert [run.steps for run in record.runs] == [round(0.97 * 30 * 60 / SECONDS_PER_STEP)] * 3
    assert record.runs[0].words == 8, "40 tokens of a text with 4 words in 20 tokens"
    assert record.marks == ("own text",)
    again = make()
    assert again.run() == record and len(programs.started) == COMMANDS, "nothing is done again"
    assert read_records(again.options.records) == [record]


def test_the_time_of_the_start_is_not_taken_for_that_of_steps(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    Programs(monkeypatch, start=24.0)
    record = make().run()
    assert record is not None and record.runs[0].steps == pytest.approx((0.97 * 30 * 60 - 24) / SECONDS_PER_STEP, abs=1)
    reports = [{"steps": 10, "report_seconds": 10 * SECONDS_PER_STEP + extra} for extra in (24.0, 0.0, 0.0)]
    assert start_seconds(reports, 32, 24.0 + 32 * SECONDS_PER_STEP) == 24.0
    assert start_seconds(reports[:1], 32, 200.0) == 0.0 == start_seconds(reports, 32, 32 * SECONDS_PER_STEP - 1)


def test_a_trial_is_measured_without_the_evaluation(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(monkeypatch)
    run = make(until="measure", minutes=3, suites=Path("own"))
    assert run.run() is None and not run.options.records.exists()
    assert not any("evaluate" in title and "one_pass" not in title for title in programs.started)
    (trial,) = read_records(run.options.trials)
    assert [each.nats_per_word for each in trial.runs] == [5.5] * 3 and trial.scores["BLiMP"].mean == 50.0
    assert trial.marks == ("cut to 3 of 30 minutes", "own text"), "its own suites are the rules'"
    make(until="measure", minutes=3, evaluation=None).run()
    (_, without) = read_records(run.options.trials)
    assert without.scores == {} and without.runs == trial.runs


def test_another_suite_of_the_same_name_is_evaluated(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = Programs(monkeypatch)
    (tmp_path / "suites").mkdir()
    suite = tmp_path / "suites" / "blimp.toml"
    for number in range(2):
        suite.write_text(f"suite = {{ tasks = ['BLiMP'], seeds = [1] }}\n# {number}\n")
        make(suites=suite.parent, seeds=(1,)).run()
    assert programs.started.count("evaluate, seed 1, blimp") == 2


def test_other_files_of_the_tasks_are_evaluated_again(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = Programs(monkeypatch)
    (tmp_path / "RTE").mkdir()
    for number in (1, 1, 2):
        (tmp_path / "RTE" / "dev.tsv").write_text(f"row {number}\n")
        make(seeds=(1,)).run()
    assert programs.started.count("evaluate, seed 1, glue_small") == 2
    assert programs.started.count("evaluate, seed 1, blimp") == 1


def test_what_another_text_has_trained_is_not_taken(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = Programs(monkeypatch)
    make(seeds=(1,), until="train").run()
    (tmp_path / "corpus" / "a.jsonl").write_text('{"id": 1, "text": "other words"}\n')
    from benchmarks.speedrun.document_list import make_list

    make_list(tmp_path / "corpus", tmp_path / "other.tsv", 100)
    make(seeds=(1,), until="train", list=tmp_path / "other.tsv").run()
    assert programs.started == 2 * ["prepare text", "train, pace", "train, seed 1"]


@pytest.mark.parametrize(("workers", "expected"), [(None, "2"), (3, "3"), (0, None)])
def test_a_suite_of_many_jobs_runs_in_workers(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, workers: int | None, expected: str | None
) -> None:
    programs = Programs(monkeypatch)
    make(seeds=(1,), workers=workers).run()
    found = {title: command for title, command in programs.commands_of.items() if title.startswith("evaluate")}
    assert "--workers" not in found["evaluate, seed 1, blimp"], "one job"
    large = found["evaluate, seed 1, glue_large"]
    assert (large[large.index("--workers") + 1] if "--workers" in large else None) == expected


def test_what_one_machine_trained_another_evaluates_in_another_folder(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = Programs(monkeypatch)
    make(seeds=(1,), until="train").run()
    (tmp_path / "work").rename(tmp_path / "copied")
    before = len(programs.started)
    assert make(seeds=(1,), work=tmp_path / "copied").run() is not None
    assert not any(title.startswith(("prepare", "train")) for title in programs.started[before:])
    command = programs.commands_of["evaluate, seed 1, blimp"]
    folder = Path(command[command.index("--checkpoint") + 1])
    assert folder.is_relative_to(tmp_path / "copied") and folder.exists()


def test_after_a_kill_at_any_command_it_goes_on_to_the_same_record(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(monkeypatch)
    for number in range(COMMANDS):
        programs.pause_at = number
        with pytest.raises(Paused):
            make().run()
        assert len(programs.started) == number, "each finished command was started once"
    record = make().run()
    assert record is not None and len(programs.started) == COMMANDS == len(set(programs.started))
    assert read_records(make().options.records) == [record]


def test_too_many_steps_are_lowered_for_all_seeds(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(monkeypatch, seconds=1.1 * SECONDS_PER_STEP)
    record = make().run()
    assert record is not None and len({run.steps for run in record.runs}) == 1
    assert all(0.9 * 30 < run.minutes <= 30 for run in record.runs)
    assert programs.started.count("train, seed 1") == 2 and programs.started.count("train, seed 2") == 1
    with pytest.raises(
        TrainingError, match=r"600 steps took 33.00 of 30 minutes, so this is no record; give --steps 5"
    ):
        make(steps=600).run()
    assert make(steps=600, enforces_minutes=False).run() is not None
    make(steps=600, until="measure").run()
    *_, trial = read_records(make().options.trials)
    assert trial.runs[0].minutes > 30, "a trial is not repeated"


def test_a_choice_is_by_validation_loss_and_its_seed_is_not_trained_twice(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(monkeypatch)
    record = make('choose = { key = "rate", values = [1.0, 2.0, 4.0] }').run()
    assert record is not None and record.chosen == {"1.0": 1.0, "2.0": 0.0, "4.0": 2.0}
    assert all(run.weights_sha256.startswith(f"{run.seed}-582-2.0") for run in record.runs)
    trained = [title for title in programs.started if title.startswith("train, seed")]
    assert trained == [
        *(f"train, seed 1, rate = {value}" for value in (1.0, 2.0, 4.0)),
        "train, seed 2",
        "train, seed 3",
    ]


def test_a_choice_by_a_share_of_the_steps_is_trained_again_with_all(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    Programs(monkeypatch)
    run = make('choose = { key = "rate", values = [1.0, 2.0], share = 0.1 }', seeds=(1,))
    record = run.run()
    assert record is not None and record.chosen == {"1.0": 1.0, "2.0": 0.0}
    assert record.runs[0].weights_sha256.startswith("1-582-2.0")
    folders = {path.parent.name for path in run.folder.glob("steps-*/*")}
    assert folders == {"steps-58", "steps-582"}


def test_later_seeds_take_steps_and_choice_of_the_first(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = Programs(monkeypatch)
    choice = 'choose = { key = "rate", values = [1.0, 2.0] }'
    elsewhere = {"work": tmp_path / "elsewhere", "seeds": (2, 3)}
    with pytest.raises(ConfigError, match=r"trials\.jsonl: has no line of mine with 30 minutes .* begin with seed 1"):
        make(choice, **elsewhere).run()
    make(choice, seeds=(1,)).run()
    programs.started.clear()
    make(choice, **elsewhere).run()
    assert [title for title in programs.started if title.startswith("train")] == ["train, seed 2", "train, seed 3"]
    apart = read_records(tmp_path / "records.jsonl")
    assert [record.remarks for record in apart] == [("own text", "1 seed"), ("own text", "2 seeds")]
    (record,) = joined(apart)
    whole = make(choice, work=tmp_path / "whole", records=tmp_path / "whole.jsonl").run()
    assert whole is not None and (record.runs, record.scores, record.chosen) == (whole.runs, whole.scores, whole.chosen)
    assert record.remarks == whole.remarks == ("own text",)


def test_later_seeds_on_a_slower_machine_are_no_record(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    Programs(monkeypatch)
    first = make(seeds=(1,)).run()
    Programs(monkeypatch, seconds=1.1 * SECONDS_PER_STEP)
    with pytest.raises(
        TrainingError, match=r"582 steps took 32\.\d+ of 30 minutes, more than the first seed; .* --over-time"
    ):
        make(seeds=(2,)).run()
    arguments = command.parser().parse_args(["run", "mine.toml", "--track", "cpu-30m", "--over-time"])
    second = make(seeds=(2,), enforces_minutes=arguments.enforces_minutes).run()
    assert first is not None and second is not None and first.runs[0].steps == second.runs[0].steps
    record = joined([first, second])[0].model_copy(update={"marks": ()})
    assert record.remarks == ("took 32.0 of 30 minutes", "2 seeds")


def test_what_is_no_record_is_marked(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    Programs(monkeypatch)
    record = make(minutes=3, seeds=(1,)).run()
    assert record is not None and record.remarks == ("cut to 3 of 30 minutes", "own text", "1 seed")


def test_missing_folders_are_named(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    Programs(monkeypatch)
    with pytest.raises(ConfigError, match="give the folder of the corpus with --text"):
        make(text=None).run()
    assert make(until="train").run() is None
    with pytest.raises(ConfigError, match="give the folder of the tasks with --evaluation"):
        make(evaluation=None).run()


def test_a_failed_recipe_does_not_end_the_queue(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = Programs(monkeypatch)
    make()
    arguments = ["run", str(tmp_path / "none.toml"), str(tmp_path / "mine.toml"), "--track", "cpu-30m"]
    folders = {"text": "corpus", "evaluation": ".", "work": "work", "trials": "trials.jsonl",
               "records": "records.jsonl", "list": "list.tsv"}  # fmt: skip
    for name, path in folders.items():
        arguments += [f"--{name}", str(tmp_path / path)]
    assert command.main(arguments) == 2
    assert "none: " in capsys.readouterr().err
    (record,) = read_records(tmp_path / "records.jsonl")
    assert isinstance(record, Record) and record.recipe == "mine"
    del folders["trials"]
    check = ["check", str(tmp_path / "mine.toml"), "--track", "cpu-30m"]
    for name, path in folders.items():
        check += [f"--{name}", str(tmp_path / path)]
    assert command.main(check) == 0
    assert "mine on cpu-30m" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.main([*check, "--until", "train"])
    started = len(programs.started)
    (tmp_path / "mine.toml").write_text((tmp_path / "mine.toml").read_text() + "more = 2.0\n")
    assert command.main(check) == 2 and len(programs.started) == started
    assert "recipe changed since then; check out" in capsys.readouterr().err


def test_a_queue_leaves_out_recipes_of_other_tracks(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = Programs(monkeypatch)
    make('tracks = ["gpu-2m"]')
    places = ["--list", str(tmp_path / "list.tsv"), "--records", str(tmp_path / "records.jsonl")]
    assert command.main(["run", str(tmp_path / "mine.toml"), "--track", "cpu-30m", *places]) == 0
    assert "mine: left out, because it is for gpu-2m" in capsys.readouterr().out and not programs.started
    with pytest.raises(ConfigError, match="tracks names 'tpu'; the tracks are cpu-30m, cpu-4h, gpu-2m, gpu-10m"):
        make('tracks = ["tpu"]')


def test_a_command_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(SesameError, match=r"train failed \(it broke\); .*log.txt has its output"):
        execute(["sh", "-c", "echo it broke; exit 3"], "train", tmp_path / "log.txt", Deadline())


def test_a_command_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(Paused):
        execute(["sh", "-c", "exec sleep 60"], "train", tmp_path / "log.txt", Deadline(0.005))
    with pytest.raises(Paused):
        execute(["sh", "-c", "exit 1"], "train", tmp_path / "log.txt", Deadline(0.0))
