"""The page: complete without a network, of a bounded size, with the numbers of the runs."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sesame.configs.errors import SesameError
from sesame.pretrain.monitoring.page import write_page
from tests.pretrain.monitoring.conftest import append, report

MakeRun = Callable[..., Path]
VOID = {"meta", "i", "br"}


class Balance(HTMLParser):
    """Finds tags that are not closed, and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attributes if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(*folders: Path) -> str:
    text = write_page(folders, None).read_text()
    assert write_page(folders, None) == folders[0] / "report.html"
    parser = Balance()
    parser.feed(text)
    assert parser.open == [] and parser.addresses == []
    assert "@import" not in text and "url(" not in text and "fetch(" not in text
    for svg in re.findall(r"(?s)<svg viewBox.*?</svg>.*?</svg>", text):
        ElementTree.fromstring(svg)
    return text


def charts_of(text: str) -> dict[str, Any]:
    """Title -> data of each chart."""
    figures = re.findall(r'(?s)<figure class="chart"><figcaption><b>(.*?)</b>.*?json">(.*?)</script>', text)
    return {title: json.loads(data) for title, data in figures}


def test_one_run(make_run: MakeRun) -> None:
    folder = make_run(losses=(8.0, 7.0, 6.0))
    append(folder, "events", {"step": 20, "kind": "spike", "message": "</script><b>9.1", "rank": 0, "action": "skip"})
    text = page_of(folder)
    charts = charts_of(text)
    training, validation = charts["Loss: masked lm"]["series"]
    assert (training["x"], training["y"]) == ([10, 20, 30], [8, 7, 6])
    assert (validation["x"], validation["y"]) == ([30], [6.25])
    assert charts["Loss: masked lm"]["markers"] == [[20, "</script><b>9.1"]]
    parts = {each["name"]: each["y"][0] for each in charts["Time of a step"]["series"]}
    assert parts == pytest.approx({"forward": 50, "backward": 20, "optimizer": 10, "data": 10, "other": 10})
    assert "</script><b>9.1" not in text and "&lt;/script&gt;&lt;b&gt;9.1" in text, "texts of the run are escaped"
    assert "bert, 1,234 parameters" in text and "1 × a &lt;device&gt;" in text
    assert "6.250 nats, 0.250 below the unigram baseline" in text
    assert "forward 50.0%, backward 20.0%" in text and "running" in text


def test_the_process_that_is_slowest_most_often(make_run: MakeRun) -> None:
    folder = make_run()
    for step, rank, slowest in ((40, 3, 0.2), (50, 3, 0.3), (60, 1, 0.9), (70, 3, 0.4)):
        append(folder, "metrics", report(step, 5.0, ranks={"median": 0.1, "slowest": slowest, "slowest_rank": rank}))
    text = page_of(folder)
    assert "rank 3 in 75% of the reports, 3.00 times the median" in text
    slowest, typical = charts_of(text)["Work in a step, without communication"]["series"]
    assert slowest["y"] == [200, 300, 900, 400] and typical["y"] == [100] * 4


def test_differences_between_runs(make_run: MakeRun) -> None:
    runs = make_run("a/run", (8.0, 7.0)), make_run("b/run", (8.0, 6.0, 5.0), learning_rate=0.01)
    text = page_of(*runs)
    charts = charts_of(text)
    assert [each["name"] for each in charts["Training loss: masked lm"]["series"]] == ["a/run", "b/run"]
    assert charts["Training loss: masked lm"]["x"] == charts["Throughput"]["x"] == [10, 30]
    assert charts["Time of a step: a/run"]["y"] == charts["Time of a step: b/run"]["y"]
    table = text.partition("Settings that differ")[2].partition("</table>")[0]
    assert re.findall("<td>(.*?)</td>", table) == ["optimizer.learning_rate", "0.001", "0.01"]


def test_a_resumed_run_shows_what_was_changed(make_run: MakeRun) -> None:
    folder = make_run()
    start = json.loads((folder / "run.jsonl").read_text())["start"]
    config = start["config"] | {"steps": 200}
    append(folder, "run", {"end": {"reason": "stopped: SIGTERM"}}, {"start": start | {"step": 20, "config": config}})
    text = page_of(folder)
    assert "steps 100 → 200" in text
    assert charts_of(text)["Throughput"]["markers"] == [[20, "resumed at step 20"]]


def test_ten_thousand_reports_make_a_small_page_with_every_spike(make_run: MakeRun) -> None:
    folder = make_run()
    high = {7777: 91.0}
    rows = [report(10 * step, 5 + step % 7 / 10, gradient_norm=high.get(step, 1.0)) for step in range(4, 10_000)]
    append(folder, "metrics", *rows)
    append(folder, "events", *({"step": 10 * number, "message": "x" * 100} for number in range(5000)))
    text = page_of(folder)
    assert len(text.encode()) < 1_000_000
    norms = charts_of(text)["Gradient norm before clipping"]
    extremes, means = norms["series"]
    assert norms["log"] and 77770 in extremes["x"] and len(extremes["x"]) <= 600
    assert (extremes["name"], means["name"]) == ("run, highest or lowest of 33", "run, mean of 33")
    training = charts_of(text)["Loss: masked lm"]["series"][1]
    assert len(training["y"]) == 300 and sum(training["y"][1:]) / 299 == pytest.approx(5.3, abs=0.01)
    assert re.findall(r"<i></i>(.*?)</span>", text.partition("Loss: masked lm")[2])[:2] == ["training", "validation"]
    assert "4500 more are in events.jsonl" in text


def test_a_run_of_an_older_version(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "checkpoint.json").write_text(json.dumps({"config": {"steps": 50, "model": {"family": "gpt"}}}))
    row = {"step": 10, "train": {"causal_lm": 5.0}, "tokens_per_second": 1.0, "seconds": 3.0}
    append(tmp_path, "metrics", row)
    (tmp_path / "metrics.jsonl").open("a").write('\n[]\n{"step": "x"}\n{"step": 20, "tra')
    text = page_of(tmp_path)
    assert "10 of 50" in text and "gpt" in text and set(charts_of(text)) == {"Loss: causal lm", "Throughput"}


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SesameError, match=r"has no metrics\.jsonl, so it is not the output folder"):
        write_page([tmp_path], None)
    assert list(tmp_path.iterdir()) == []


def test_reading_runs_does_not_load_torch() -> None:
    code = "import sys, sesame.pretrain.monitoring.page, sesame.pretrain.monitoring.live; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
