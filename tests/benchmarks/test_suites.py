"""The table of every suite with every checkpoint: what is done where a training file is missing."""

from pathlib import Path

import pytest

from benchmarks import suites
from sesame.evaluation.tasks import TASKS


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((), False),
        (("MNLI/dev_matched.tsv",), False),
        (("MNLI/dev_matched.tsv", "MNLI/dev_mismatched.tsv"), True),
        (("MNLI/dev_matched.tsv", "MNLI/dev_mismatched.tsv", "MNLI/train.tsv"), False),
    ],
)
def test_a_task_with_dev_rows_alone_is_trained_on_part_of_them(
    tmp_path: Path, files: tuple[str, ...], expected: bool
) -> None:
    write(tmp_path, *files)
    assert suites.is_without_training(TASKS["MNLI"], tmp_path) is expected


def test_a_task_that_is_not_trained_has_no_training_file(tmp_path: Path) -> None:
    write(tmp_path, "blimp/blimp.jsonl")
    assert not suites.is_without_training(TASKS["BLiMP"], tmp_path)


def test_what_is_left_out_is_named_without_its_folder() -> None:
    report = {
        "mean": {}, "tasks": {},
        "skipped": {"CHID": "/data/clue/CHID/dev_answer.json: no such file; it has the labels of CHID/dev.json"},
    }  # fmt: skip
    lines = [line.strip() for line in suites.lines_of("clue", {"mine": report}, {"other": "it has no head"})]
    assert "CHID is left out: dev_answer.json: no such file; it has the labels of CHID/dev.json." in lines
    assert lines[-1] == "other has no score: it has no head."


def test_a_wrong_checkpoint_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "glue/RTE/dev.tsv")
    options = ["--data-dir", str(tmp_path), "--output", str(tmp_path / "out"), "--suites", "glue", "--checkpoint"]
    monkeypatch.setattr("sys.argv", ["suites.py", *options, f"mine={tmp_path / 'none'}"])
    with pytest.raises(SystemExit) as ended:
        suites.main()
    assert ended.value.code == 2 and "does not contain a checkpoint" in capsys.readouterr().err
