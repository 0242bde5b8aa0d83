"""Reports of made-up models, whose predictions are right with a given probability."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sesame import configs
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.finetune import scores_of
from sesame.evaluation.report.content import Content, Repeat, RunInfo
from sesame.evaluation.report.repeat import write_settings
from sesame.evaluation.report.summary import summarise
from sesame.evaluation.report.write import write
from sesame.evaluation.results.result import Result, depends_on_seed, make_job
from sesame.evaluation.results.store import Store
from sesame.evaluation.tasks import TASKS, Task

ROWS = 120
SENTENCES = (
    "The committee will meet on Tuesday.",
    '<b>bold</b> & "quoted"',
    "No one expected the second half of the year to be so quiet, least of all those who had planned for a flood.",
)


def made_report(
    output: Path,
    names: list[str],
    *,
    seeds: int,
    baseline: bool = True,
    skill: float = 0.8,
    rows: int = ROWS,
    statistic: str = "median",
) -> EvaluationConfig:
    """Write a report of ``names`` to ``output``."""
    suite = {"tasks": names, "seeds": list(range(1, seeds + 1)), "baseline": baseline, "statistic": statistic}
    values: dict[str, Any] = {"suite": suite, "finetune": {"precision": "fp32"}, "checkpoint": "made", "data_dir": "x"}
    config = configs.parse(values, EvaluationConfig, "made.toml")
    tasks = [_data(TASKS[name], rows) for name in names]
    store, results = Store(output / "results"), []
    for data in tasks:
        for model in ("pretrained", "random") if baseline else ("pretrained",):
            is_seeded = depends_on_seed(data, model)
            for seed in config.suite.seeds if is_seeded else config.suite.seeds[:1]:
                job = make_job("made", data, config.settings(data.task.name), model, seed)
                result = _result(data, model, seed, skill if model == "pretrained" else 0.5, job.name)
                store.write(job, result)
                results += [result] if is_seeded else [result.with_seed(each) for each in config.suite.seeds]
    summary = summarise(tasks, results, [], config.suite.statistic)
    run = RunInfo("runs/made", 1200, "0" * 64, datetime(2026, 1, 2, tzinfo=UTC), "the CPU with 2 threads")
    output.mkdir(parents=True, exist_ok=True)
    command, settings = (
        "sesame evaluate made.toml --checkpoint made",
        write_settings(output, config, Path("made"), Path("x")),
    )
    repeat = Repeat(command, {"RTE/dev.tsv": "a" * 64}, settings)
    texts = {data.title: {prefix: [_texts(row) for row in range(rows)] for prefix in data.dev} for data in tasks}
    heads = {data.title: "first token, new dense layer" for data in tasks}
    content = Content(config, tasks, results, {"QQP": "QQP/train.tsv: no such file"}, run, summary, heads)
    write(output, replace(content, repeat=repeat, texts=texts))
    return config


def _texts(row: int) -> list[str]:
    return [SENTENCES[row % 3], f"Sentence {row}."]


def _data(task: Task, rows: int) -> TaskData:
    draw = np.random.default_rng(len(task.name))
    per_row = 2 if task.kind in ("minimal_pairs", "similarity") else 1

    def examples() -> EncodedExamples:
        if task.has_scores:
            labels = draw.uniform(0, 5, rows).astype(np.float32)
        else:
            labels = draw.integers(max(1, len(task.labels)), size=rows)
        tokens = [np.array([2, 5 + row % 90, 3], np.int32) for row in range(rows * per_row)]
        counts = np.full(rows, per_row) if per_row > 1 else None
        return EncodedExamples(tokens, np.full(rows * per_row, 3), labels, list(map(str, range(rows))), counts)

    dev = {prefix: examples() for prefix, table in task.dev.items() if not table.optional}
    return TaskData(task, task.name, examples() if task.train is not None else None, dev, {})


def _result(data: TaskData, model: str, seed: int, skill: float, name: str) -> Result:
    draw = np.random.default_rng([seed, len(data.title), round(100 * skill)])
    outputs = {}
    for prefix, dev in data.dev.items():
        if data.task.kind == "minimal_pairs":
            right = draw.random(dev.rows) < skill
            outputs[prefix] = np.stack([right, ~right], 1).reshape(-1, 1).astype(np.float32)
        elif data.task.has_scores:
            noise = draw.normal(0, 3 * (1.05 - skill), dev.rows)
            outputs[prefix] = (dev.labels + noise)[:, None].astype(np.float32)
        else:
            classes = len(data.task.labels)
            wrong = draw.integers(classes, size=dev.rows)
            chosen = np.where(draw.random(dev.rows) < skill, dev.labels, wrong)
            outputs[prefix] = np.eye(classes, dtype=np.float32)[chosen]
    steps = np.arange(1, 91)
    losses = (0.2 + 0.6 * np.exp(-steps / (100 * (1.2 - skill))) + draw.normal(0, 0.04, 90)).astype(np.float32)
    scores = scores_of(data, outputs)
    return Result(data.task.name, model, seed, scores, 3, 12.5, "cpu", outputs, name=name, losses=losses)
