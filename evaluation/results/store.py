"""Results on disk, so that nothing is computed twice: a JSON file with the scores and an .npz file with the outputs.

    results/RTE-pretrained-1-0123456789ab.json        key, scores, seconds, SHA-256 of the outputs
    results/RTE-pretrained-1-0123456789ab.npz         outputs for each dev set, float32
    results/RTE-pretrained-1-0123456789ab.test.*      the same for the test sets, with a key of its own

Scores are computed from the outputs whenever a result is read, so that a task may get another metric. A file that is
truncated, damaged or of another key counts as absent.
"""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sesame.configs.storage import atomic_file, digest, write_text
from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.finetune import scores_of
from sesame.evaluation.results.result import Job, Result

LOSSES, DEV_SCORES = "curve losses", "dev_scores"
"""Learning curves: an array of the .npz file, and a key of the JSON file. Earlier results have none."""

Outputs = dict[str, np.ndarray]


class Store:
    """The folder of the results of an evaluation."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, job: Job) -> Result | None:
        """Return the result of a job; None if it is not there."""
        values, outputs = self._read(job.name, job.key, job.data.dev)
        if values is None:
            return None
        scores = scores_of(job.data, outputs)
        numbers = int(values["epoch"]), float(values["seconds"]), str(values["device"])
        curves = {"losses": values[LOSSES], "dev_scores": tuple(values.get(DEV_SCORES, ()))}
        return Result(job.data.task.name, job.model, job.seed, scores, *numbers, outputs, name=job.name, **curves)

    def write(self, job: Job, result: Result) -> None:
        """Keep the result of a job."""
        scores = {name: None if math.isnan(value) else value for name, value in result.scores.items()}
        numbers = {"epoch": result.epoch, "seconds": result.seconds, "device": result.device}
        names = {"task": result.task, "title": job.data.title, "model": result.model, "seed": result.seed}
        rows = {}
        for prefix, dev in job.data.dev.items():
            # What `sesame compare` needs, so that it reads no task files.
            rows[f"labels {prefix}"] = dev.labels
            rows[f"predictions {prefix}"] = answers(job.data.task, dev, result.outputs[prefix])
            if dev.groups is not None:
                rows[f"groups {prefix}"] = dev.groups
        if len(result.losses):
            rows[LOSSES] = result.losses
        values = {**names, "key": job.key, **numbers, "scores": scores, DEV_SCORES: list(result.dev_scores)}
        self._write(job.name, values, result.outputs, rows)

    def read_test(self, job: Job) -> Outputs | None:
        """Return the outputs for the test sets; None if they are not there."""
        values, outputs = self._read(f"{job.name}.test", job.test_key, job.data.test)
        return None if values is None else outputs

    def write_test(self, job: Job, outputs: Outputs) -> None:
        """Keep the outputs for the test sets."""
        self._write(f"{job.name}.test", {"key": job.test_key}, outputs)

    def _write(self, name: str, values: dict[str, Any], outputs: Outputs, rows: Outputs | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = self.folder / f"{name}.npz"
        with atomic_file(arrays) as file:
            np.savez_compressed(file, **{f"set {key}": value for key, value in outputs.items()}, **(rows or {}))  # pyright: ignore[reportArgumentType]
        text = json.dumps({**values, "outputs_sha256": digest(arrays)}, indent=2) + "\n"
        write_text(self.folder / f"{name}.json", text)

    def _read(self, name: str, key: str, sets: dict[str, EncodedExamples]) -> tuple[dict[str, Any] | None, Outputs]:
        arrays = self.folder / f"{name}.npz"
        try:
            values = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            if values["key"] != key or values["outputs_sha256"] != digest(arrays):
                return None, {}
            with np.load(arrays, allow_pickle=False) as file:
                outputs = {name: file[f"set {name}"] for name in sets}
                values[LOSSES] = file[LOSSES] if LOSSES in file.files else np.zeros(0, np.float32)
            if not name.endswith(".test"):
                values = {each: values[each] for each in ("epoch", "seconds", "device")} | {
                    each: values[each] for each in (LOSSES, DEV_SCORES) if each in values
                }
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None, {}
        fits = all(len(outputs[name]) == len(examples.tokens) for name, examples in sets.items())
        return (values, outputs) if fits else (None, {})
