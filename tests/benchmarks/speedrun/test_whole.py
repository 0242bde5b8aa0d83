"""The driver with its programs: text to record for both kinds of recipes, stopped and started again, and checked."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.speedrun.document_list import make_list
from benchmarks.speedrun.record import read_records
from tests.conftest import ROOT

SEGMENT = 'segment = { kind = "contiguous", sequence_length = 32, short_sequence_probability = 0.0 }'
RECIPES = {
    "ours": f"""
about = "a tiny model"
[corpora.text]
tokenizer = {{ vocabulary_size = 320 }}
{SEGMENT}
corrupt = {{ kind = "masked_tokens", drawn = "each_epoch" }}
[pretrain]
data = {{ global_batch = 8, causal_every = 4 }}
objectives = {{ masked_next = 1.0 }}
optimizer = {{ name = "adamw", learning_rate = 1e-3 }}
parallel = {{ precision = "fp32", threads = 1 }}
[pretrain.model]
family = "bert"
layers = 2
width = 32
heads = 2
feed_forward_width = 64
positions = 64
segments = 0
position_kind = "rotary"
norm_placement = "both"
value_embeddings = 1
dropout = 0.0
attention_dropout = 0.0
""",
    "theirs": f"""
kind = "transformers"
about = "transformers' loop"
[choose]
key = "learning_rate"
values = [1e-3, 1e-4]
[corpora.text]
tokenizer = {{ vocabulary_size = 320 }}
{SEGMENT}
corrupt = {{ kind = "nothing" }}
[pretrain]
layers = 2
width = 32
heads = 2
feed_forward_width = 64
positions = 64
precision = "fp32"
threads = 1
""",
}
SUITES = {
    "blimp": 'tasks = ["BLiMP"]\nseeds = [1]',
    "glue": 'tasks = ["CoLA"]\nseeds = [1, 2]',
}


@pytest.fixture
def folder(corpus: Path, tmp_path: Path) -> Path:
    """A folder with everything that the commands below name."""
    (tmp_path / "text").mkdir()
    lines = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    named = [{"id": number, **line} for number, line in enumerate(lines)]
    (tmp_path / "text" / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    make_list(tmp_path / "text", tmp_path / "list.tsv", 15_000)
    for name, content in RECIPES.items():
        (tmp_path / f"{name}.toml").write_text(content)
    (tmp_path / "suites").mkdir()
    for name, suite in SUITES.items():
        settings = "baseline = false\npredict_test = false\n[finetune]\nsequence_length = 32\nepochs = 1\n"
        (tmp_path / "suites" / f"{name}.toml").write_text(f'[suite]\n{suite}\n{settings}precision = "fp32"\n')
    (tmp_path / "blimp").mkdir()
    pairs = [{"UID": "p", "sentence_good": f"{a} the of", "sentence_bad": f"of {a} the"} for a in ("ba", "de", "ki")]
    (tmp_path / "blimp" / "blimp.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    cola = tmp_path / "glue" / "CoLA"
    cola.mkdir(parents=True)
    for name, count in (("train", 24), ("dev", 8)):
        rows = [
            f"x\t{number % 2}\t\t{name} the {'of' if number % 2 else 'and'} word{number}" for number in range(count)
        ]
        (cola / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def command(folder: Path, action: str, recipe: str, *options: str) -> list[str]:
    named = {"text": "text", "evaluation": ".", "list": "list.tsv", "suites": "suites"}
    named |= {"records": "records.jsonl"} | ({"trials": "trials.jsonl"} if action == "run" else {})
    values = [part for name, path in named.items() for part in (f"--{name}", str(folder / path))]
    work = ["--work", str(folder / f"work-{action}"), "--track", "cpu-30m", *options]
    return [sys.executable, "-m", "benchmarks.speedrun", action, str(folder / f"{recipe}.toml"), *values, *work]


def run(arguments: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_both_kinds_reach_a_record_that_is_confirmed(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ours = command(folder, "run", "ours", "--steps", "8", "--seeds", "2")
    first = subprocess.Popen(ours, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    for line in first.stdout:
        if "train, seed 2" in line:
            time.sleep(1.0)
            first.send_signal(signal.SIGTERM)
            break
    assert first.wait() == 130
    assert "seed 1" not in (continued := run(ours)).partition("measure")[0], continued
    theirs = run(command(folder, "run", "theirs", "--steps", "6", "--seeds", "2", "--workers", "0"))
    assert "learning_rate = 0.001 has the lowest of" in theirs
    records = {record.recipe: record for record in read_records(folder / "records.jsonl")}
    assert list(records) == ["ours", "theirs"]
    for record in records.values():
        assert record.scores.keys() == {"BLiMP", "CoLA"} and len(record.runs) == 2
        assert len({each.weights_sha256 for each in record.runs}) == 2, "seeds differ"
        assert all(each.flops > 0 and each.minutes > 0 and each.validation_loss > 1 for each in record.runs)
    assert records["ours"].runs[0].tokens == pytest.approx(8 * 8 * 32, rel=0.05)
    assert records["theirs"].runs[0].tokens == 6 * 8 * 32
    # Both read the same ids, and masked models of one shape need nearly the same operations for a token.
    per_token = {name: record.runs[0].flops / record.runs[0].tokens for name, record in records.items()}
    assert 0.5 < per_token["ours"] / per_token["theirs"] < 2
    trials = {trial.recipe: trial for trial in read_records(folder / "trials.jsonl")}
    assert list(trials) == list(records)
    assert len({trial.held_out_sha256 for trial in trials.values()}) == 1, "both predict words of the same documents"
    for name, trial in trials.items():
        assert trial.runs == records[name].runs and trial.scores.keys() == {"BLiMP"}
        assert all(0 < each.nats_per_word < 100 for each in trial.runs)
    checked = run(command(folder, "check", "ours", "--workers", "0"))
    assert "2 of 2 seeds have the same bytes" in checked and "confirmed" in checked
