"""Texts of dev rows that a report keeps, beside the right rows."""

import json
from pathlib import Path

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import load_task
from sesame.evaluation.report.examples import dev_texts
from sesame.evaluation.tasks.own import OwnTable, OwnTask


def test_rows_that_share_their_name_have_no_text(letter_tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [("one", "aa", "no"), ("two", "zz", "yes"), ("one", "az", "yes"), ("three", "za", "no")]
    for split, ending in (("train", "q"), ("dev", "")):
        lines = [json.dumps({"passage": name, "text": text + ending, "label": label}) for name, text, label in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    train, table = (
        OwnTable(file=f"{split}.jsonl", texts=("text",), label="label", index="passage") for split in ("train", "dev")
    )
    task = OwnTask(name="Mine", metrics=("accuracy",), labels=("no", "yes"), train=train, dev=table).row()
    data = load_task(task, FinetuneConfig(), tmp_path, letter_tokenizer, False)
    assert dev_texts(data, tmp_path) == {"": [[], ["zz"], [], ["za"]]}
