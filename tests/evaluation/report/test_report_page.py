"""The pages: complete, self-contained, and the same numbers as in report.json."""

import gzip
import json
import re
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from sesame import configs
from sesame.configs.errors import TaskError
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.report.compare import compare_reports, comparison_text
from sesame.evaluation.report.compare_page import compare_page
from sesame.evaluation.report.confusion import confusions
from sesame.evaluation.report.dot_plot import Mark, Plot, PlotRow
from sesame.evaluation.report.examples import disagreements, read_texts, write_texts
from sesame.evaluation.report.published import PUBLISHED, published_of
from sesame.evaluation.results.result import Result
from sesame.evaluation.tasks import TASKS
from tests.evaluation.report.made_report import made_report

VOID = {"meta", "br", "path", "circle", "rect", "img"}


class _Checker(HTMLParser):
    """Every element is closed in order, and nothing is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href", "xlink:href"} & {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def _text(path: Path) -> str:
    html = path.read_text(encoding="utf-8")
    checker = _Checker()
    checker.feed(html)
    assert not checker.open and "@import" not in html and "url(" not in html
    assert "nan" not in re.sub(r"<[^>]*>", " ", checker.text).lower().split()
    assert not re.search(r'[ "](nan|inf)', " ".join(re.findall(r"<(?:path|circle|text)[^>]*>", html)), re.IGNORECASE)
    return re.sub(r"\s+", " ", checker.text)


def test_the_page_has_every_part(tmp_path: Path) -> None:
    made_report(tmp_path, ["RTE", "MRPC", "STS-B", "MNLI"], seeds=5)
    text, values = _text(tmp_path / "report.html"), json.loads((tmp_path / "report.json").read_text())
    for title in (
        *("Scores", "Pretrained against the random-init baseline", "The mean without one of its tasks", "By metric"),
        *(
            "Published figures",
            "Learning curves",
            "Confusion matrices",
            "Rows on which the models disagree",
            "Settings",
        ),
        *("Settings", "To repeat it", "smallest detectable", "always the most frequent label"),
    ):
        assert title in text, title
    for task in values["tasks"].values():
        assert f"{task['score']['pretrained']['median']:.1f}" in text
        low, high = task["score"]["pretrained"]["interval_95"]
        assert f"[{low:.1f}, {high:.1f}]" in text and low < task["score"]["pretrained"]["mean"] < high
    assert "sesame evaluate made.toml --checkpoint made" in text and "RoBERTa-base" in text
    assert '<b>bold</b> & "quoted"' in text, "texts of tasks are escaped"
    assert len(values["mean"]["without"]) == 4


@pytest.mark.parametrize(
    ("names", "seeds", "baseline"), [(["RTE"], 1, False), (["BLiMP"], 2, True), (["IFLYTEK"], 2, False)]
)
def test_pages_of_other_sizes(tmp_path: Path, names: list[str], seeds: int, baseline: bool) -> None:
    """One task and seed, minimal pairs, and a task of 119 classes."""
    made_report(tmp_path, names, seeds=seeds, baseline=baseline)
    text = _text(tmp_path / "report.html")
    assert names[0] in text and ("random-init baseline" in text) == baseline
    assert ("most frequent confusions" in text) == (names == ["IFLYTEK"])
    assert "The mean without one of its tasks" not in text


@pytest.mark.parametrize("baseline", [True, False])
def test_a_difference_is_shown_only_with_a_baseline(
    tmp_path: Path, baseline: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    made_report(tmp_path, ["RTE", "CoLA"], seeds=2, baseline=baseline)
    assert ("┃ difference ┃" in capsys.readouterr().out) == baseline
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    head = next(line for line in text.splitlines() if line.startswith("| without |"))
    assert ("difference" in head) == baseline


def test_the_settings_file_repeats_the_evaluation(tmp_path: Path) -> None:
    config = made_report(tmp_path, ["RTE"], seeds=2)
    again = configs.load(tmp_path / "evaluation.toml", EvaluationConfig)
    assert again.recipe() == config.recipe() and again.checkpoint == Path("made").absolute()
    assert again.output == tmp_path.absolute()


def test_the_picture_names_the_statistic_of_its_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: labels.append(figure.axes[0].get_ylabel()))
    for statistic in ("mean", "median"):
        made_report(tmp_path, ["RTE"], seeds=2, statistic=statistic)
        assert labels[-1] == f"score, times 100 (bars: {statistic}, dots: seeds)"


def test_two_reports_are_compared_with_examples(tmp_path: Path) -> None:
    for name, skill in (("a", 0.9), ("b", 0.6)):
        made_report(tmp_path / name, ["RTE", "STS-B"], seeds=5, skill=skill)
    compared = compare_reports(tmp_path / "a", tmp_path / "b")
    (tmp_path / "page.html").write_text(compare_page(compared), encoding="utf-8")
    text = _text(tmp_path / "page.html")
    assert "RTE: the first is better" in text and "<b>bold</b>" in text and "better" in text
    assert compared.tasks["RTE"].scores[0] > compared.tasks["RTE"].scores[1] + 10
    assert compared.notes == []
    for path in (tmp_path / "a" / "dev_rows").iterdir():
        path.unlink()
    without = compare_reports(tmp_path / "a", tmp_path / "b")
    assert without.tasks["RTE"].examples[""][0][0].texts == []
    assert without.notes == ["dev rows compared by their labels only, because a report has no texts: RTE, STS-B"]
    assert without.notes[0] in compare_page(without)
    path = tmp_path / "b" / "dev_rows" / "RTE.json.gz"
    content = path.read_bytes()
    for damaged in (b"\x1f\x8bnot gzip", content[:40] + b"\xff" * 20 + content[60:]):
        path.write_bytes(damaged)
        with pytest.raises(TaskError, match=r"RTE\.json\.gz: is damaged"):
            compare_reports(tmp_path / "a", tmp_path / "b")
    path.write_bytes(content)
    path = next((tmp_path / "a" / "results").glob("RTE-pretrained-*.npz"))
    content = path.read_bytes()
    for place in range(50, len(content), 50):
        path.write_bytes(content[:place] + b"\xff" * 20 + content[place + 20 :])
        with suppress(TaskError):
            compare_reports(tmp_path / "a", tmp_path / "b")


def test_other_settings_of_fine_tuning_are_named(tmp_path: Path) -> None:
    for name in "ab":
        made_report(tmp_path / name, ["RTE", "STS-B"], seeds=2)
    path = tmp_path / "b" / "report.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for title, epochs in (("RTE", 30), ("STS-B", values["tasks"]["STS-B"]["settings"]["epochs"])):
        values["tasks"][title]["settings"]["epochs"] = epochs
        values["tasks"][title]["train_rows"] = 7
    path.write_text(json.dumps(values), encoding="utf-8")
    compared = compare_reports(tmp_path / "a", tmp_path / "b")
    first, second = compared.notes
    assert re.fullmatch(r"fine-tuned differently: epochs \d+ and 30, train rows \d+ and 7 \(RTE\)", first)
    assert re.fullmatch(r"fine-tuned differently: train rows \d+ and 7 \(STS-B\)", second)
    assert first in compare_page(compared) and first in comparison_text(compared)


def test_a_task_without_fine_tuning_is_compared_by_its_rows(tmp_path: Path) -> None:
    """Of one result for all seeds, however many the suite has; one seed of fine-tuning says nothing."""
    for name, skill in (("a", 0.9), ("b", 0.6)):
        made_report(tmp_path / name, ["BLiMP", "RTE"], seeds=1, skill=skill, baseline=False)
    tasks = compare_reports(tmp_path / "a", tmp_path / "b").tasks
    blimp, rte = tasks["BLiMP"], tasks["RTE"]
    assert blimp.comparison.verdict(blimp.p_value) == "better" and blimp.comparison.interval[0] > 0.1
    assert rte.comparison.verdict(rte.p_value) == "no verdict below 5 seeds"
    values = json.loads((tmp_path / "a" / "report.json").read_text())["tasks"]
    low, high = values["BLiMP"]["score"]["pretrained"]["interval_95"]
    assert low < values["BLiMP"]["score"]["pretrained"]["mean"] < high
    assert values["RTE"]["score"]["pretrained"]["interval_95"] == [None, None]


def test_other_rows_with_equal_labels_are_not_compared(tmp_path: Path) -> None:
    for name in ("a", "b"):
        made_report(tmp_path / name, ["BLiMP"], seeds=1, baseline=False)
    path = tmp_path / "b" / "dev_rows" / "BLiMP.json.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text.replace("Sentence 7.", "Another sentence.").encode()))
    with pytest.raises(TaskError, match="BLiMP has other dev rows; evaluate both on the same files"):
        compare_reports(tmp_path / "a", tmp_path / "b")


def test_rows_with_the_largest_disagreement_come_first() -> None:
    labels = np.array([0, 1, 1, 0])
    first, second = np.array([[0, 1, 0, 0], [0, 1, 0, 0]]), np.array([[1, 0, 1, 0], [0, 0, 1, 0]])
    better, worse = disagreements(labels, first, second, ("no", "yes"), list("abcd"), [["x"], ["y"], ["z"], ["w"]])
    assert [each.row for each in better] == ["b", "a"] and [each.row for each in worse] == ["c"]
    assert better[0].answers == ("yes (2 of 2)", "no (2 of 2)") and better[0].label == "yes"
    assert better[1].answers[1] == "no (1 of 2), yes (1 of 2)" and better[1].texts == ["x"]
    scores = disagreements(np.array([1.0, 5.0]), np.array([[1.0, 1.0]]), np.array([[3.0, 4.5]]), (), ["0", "1"], [])
    assert [each.row for each in scores[0]] == ["0"] and scores[1][0].answers == ("1.00", "4.50")


def test_a_confusion_matrix_counts_rows(tmp_path: Path) -> None:
    examples = EncodedExamples([np.array([2, 3])] * 4, np.full(4, 2), np.array([0, 1, 2, 2]), list("0123"))
    data = TaskData(TASKS["CB"], "CB", examples, {"": examples}, {})
    answered = (np.array([0, 1, 2, 1]), np.array([0, 1, 2, 2]))
    results = [
        Result("CB", "pretrained", seed, {}, 1, 1.0, outputs={"": np.eye(3, dtype=np.float32)[each]})
        for seed, each in enumerate(answered)
    ]
    (found,) = confusions(data, results)
    assert found.counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0.5, 1.5]]
    assert found.most_confused() == [("neutral", "entailment", 0.5)] and found.shares[2].tolist() == [0, 0.25, 0.75]


def test_texts_are_read_as_they_were_written(tmp_path: Path) -> None:
    examples = EncodedExamples([np.array([2, 3])] * 2, np.full(2, 2), np.array([0, 1]), ["4", "9"])
    data = TaskData(TASKS["RTE"], "RTE (dev split 80/20)", examples, {"": examples}, {})
    write_texts(tmp_path, data, {"": [["a", "ü\n"], ["b", ""]]})
    assert [path.name for path in (tmp_path / "dev_rows").iterdir()] == ["RTE_dev_split_80_20.json.gz"]
    found = read_texts(tmp_path, data.title)[""]
    assert found == {"rows": ["4", "9"], "texts": [["a", "ü\n"], ["b", ""]], "labels": list(TASKS["RTE"].labels)}
    assert read_texts(tmp_path, "CoLA") == {}


# From the papers' tables and the repositories' documents.
TYPED: dict[tuple[str, str], dict[str, float]] = {
    ("RoBERTa-base", ""): {"MNLI": 87.6, "RTE": 78.7, "CoLA": 63.6, "STS-B": 91.2, "MRPC": 90.2},
    ("ALBERT-xxlarge", ""): {"QNLI": 95.3, "SST-2": 96.9, "RTE": 89.2},
    ("ModernBERT-base", "-from-MNLI"): {"RTE": 87.4, "MRPC": 92.2, "STS-B": 91.8},
    ("ModernBERT-base", ""): {"CoLA": 65.1, "QQP": 92.1},
    ("MosaicBERT-base", "-from-MNLI"): {"RTE": 81.36, "STS-B": 89.27},
    ("RoBERTa-large", ""): {"COPA": 94.0, "WiC": 75.6, "SuperGLUE-RTE": 89.5, "RTE": 86.6},
    ("BERT-base, Chinese", ""): {"CMNLI": 79.47, "AFQMC": 74.16},
    ("GPT-2", ""): {"BLiMP": 65.1},
}


def test_published_figures_are_of_their_row() -> None:
    known: dict[tuple[str, str], list[float]] = {}
    for each in PUBLISHED:
        known.setdefault((each.model, each.task), []).append(each.value)
        table: Any = TASKS[each.task]
        names = {f"{prefix} {metric}".strip() for prefix in table.dev for metric in table.metrics_of(prefix)}
        assert each.metric == "" or each.metric in names, each
        assert each.source and each.kind.split(",")[0] in ("dev", "test")
    for (model, suffix), values in TYPED.items():
        for task, value in values.items():
            assert known[model, f"{task}{suffix}"] == [value], (model, task)
    started = {each.model for each in published_of("RTE-from-MNLI")}
    assert started == {"MosaicBERT-base", "ModernBERT-base", "ModernBERT-large"}
    assert not started & {each.model for each in published_of("RTE")}


def test_an_interval_that_is_wider_than_the_scores_is_cut_off() -> None:
    mark = Mark(50.0, (-4000.0, 5000.0), (40.0, 60.0), 0, "50.0")
    html = Plot("Scores", "points", [], [PlotRow("RTE", [mark], 52.7)], bounds=(0.0, 100.0)).html()
    places = [float(place) for place in re.findall(r'(?:cx=|[MH])"?(-?[\d.]+)', html)]
    assert min(places) >= 0 and max(places) <= 960 and max(places) - min(places) > 500
