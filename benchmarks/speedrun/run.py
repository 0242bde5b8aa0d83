"""One recipe on one track, from text to a record. What is finished is not done again."""

import json
import os
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import torch

from benchmarks.speedrun.commands import execute
from benchmarks.speedrun.document_list import DocumentList, read_list, write_text_of
from benchmarks.speedrun.entry import record_of
from benchmarks.speedrun.facts import PACKAGES, code_version
from benchmarks.speedrun.held_out import HeldOut
from benchmarks.speedrun.options import QUICK, Options
from benchmarks.speedrun.recipe import Recipe, load_recipe, write_toml
from benchmarks.speedrun.record import Record, Score, enter, read_scores, records_so_far
from benchmarks.speedrun.scoring import Scoring
from benchmarks.speedrun.tracks import Track
from benchmarks.speedrun.trainers import SESAME, TRAINERS, Job, Limit, Trained
from sesame.configs.errors import ConfigError, TrainingError
from sesame.configs.machine import processor
from sesame.configs.storage import digest_of, write_text
from sesame.pretrain.reporting.run_record import versions

VALIDATION_SHARE = 0.01
"""Of the documents."""
PACE_SHARE, PACE_MINUTES = 0.04, 0.5
"""Length of the short run that finds how many steps a track has: a share of its minutes, and at least so many."""
MARGIN = 0.97
"""Of the steps that fit at that pace."""
ATTEMPTS = 4
"""At a number of steps that fits."""


class Run:
    """A recipe on a track."""

    def __init__(self, path: Path, track_name: str, track: Track, options: Options):
        """
        Raises:
            SesameError: the recipe or the list is wrong.
        """
        self.name, self.recipe = path.stem, load_recipe(path)
        self.track_name, self.track, self.options = track_name, track, options
        self.minutes = options.minutes or track.minutes
        self.documents: DocumentList = read_list(options.list)
        budget, text = f"{track_name}-{self.minutes:g}", self.documents.sha256[:8]
        self.folder = options.work / budget / f"{self.name}-{self.recipe.digest[:8]}-{text}"

    @property
    def is_for_track(self) -> bool:
        return not self.recipe.tracks or self.track_name in self.recipe.tracks

    def run(self) -> Record | None:
        """Compute a record and append it; None if an earlier stage is the last one.

        Raises:
            SesameError: a stage failed.
            Paused: the deadline is over.
        """
        if self.track.cores:
            allowed = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, allowed[: self.track.cores])
            if (used := self.threads) < self.track.cores:
                print(f"{self.name}: trains with {used} of {self.track.cores} cores", flush=True)
        datasets = self.datasets()
        if self.options.until == "prepare":
            return self._stopped("prepared")
        recipe, chosen, steps = self.choose(datasets)
        trained = self.train_seeds(recipe, datasets, steps)
        if self.options.until == "train":
            return self._stopped("trained")
        entry = partial(record_of, self, datasets, trained, chosen, self.measure(trained, datasets))
        trial = entry(self._quick_scores(trained), QUICK)
        enter(self.options.trials, trial)
        print(f"{self.name}: {trial.summary}", flush=True)
        if self.options.until == "measure":
            return self._stopped("measured")
        suites, random_init = self.options.suites, self.options.random_init
        reports = [self.scoring.reports(seed, each, suites, random_init=random_init) for seed, each in trained.items()]
        record = entry(read_scores(reports), suites)
        enter(self.options.records, record)
        write_text(self.folder / "record.json", json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
        print(f"{self.name}: {record.summary}", flush=True)
        return record

    @property
    def threads(self) -> int:
        """CPU threads of a training."""
        return TRAINERS[self.recipe.kind].threads(self.recipe) or len(os.sched_getaffinity(0))

    def _stopped(self, done: str) -> None:
        print(f"{self.name}: {done}; the same command without --until goes on", flush=True)

    def datasets(self) -> dict[str, Path]:
        """Prepare each corpus of the recipe; recipes that prepare the same share it."""
        found: dict[str, Path] = {}
        for name, sections in self.recipe.corpora.items():
            values = {"shards": {"validation_fraction": VALIDATION_SHARE}, **sections, "seed": 1}
            if found:
                model = next(iter(found.values())) / "tokenizer.model"
                values["tokenizer"] = {**values.get("tokenizer", {}), "model": str(model.absolute())}
            identity = [
                {**values, "tokenizer": sections.get("tokenizer")},
                self.documents.sha256,
                [path.name for path in found.values()],
            ]
            key = digest_of(json.dumps(identity, sort_keys=True).encode())
            folder = self.options.work / "datasets" / key[:12]
            if not (folder / "manifest.json").exists():
                values["output"], values["source"] = str(folder.absolute()), self._source()
                configuration = folder.with_suffix(".toml")
                folder.parent.mkdir(parents=True, exist_ok=True)
                write_toml(configuration, values)
                self._execute([*SESAME, "prepare", str(configuration)], f"prepare {name}", folder.with_suffix(".log"))
            found[name] = folder
        return found

    def _source(self) -> dict[str, object]:
        if self.options.text is None:
            raise ConfigError("the text is not prepared yet; give the folder of the corpus with --text")
        path = self.options.work / "text" / f"{self.documents.sha256[:12]}.jsonl"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_of(self.documents, self.options.text, path)
        return {"kind": "json_lines", "paths": [str(path.absolute())]}

    def choose(self, datasets: dict[str, Path]) -> tuple[Recipe, dict[str, float], int]:
        """Return the recipe with its choice made, the validation loss of each value, and the steps."""
        choice, steps = self.recipe.choose, self.options.steps or self.recipe.steps
        earlier = self._earlier() if 1 not in self.options.seeds and (choice or not steps) else None
        steps = steps or (earlier.runs[0].steps if earlier else None)
        if choice is None:
            return self.recipe, {}, steps or self.steps(self.recipe, datasets)
        tried = {str(value): self.recipe.with_value(value) for value in choice.values}
        steps = steps or self.steps(next(iter(tried.values())), datasets)
        fewer = max(1, round(choice.share * steps))
        losses = (
            earlier.chosen
            if earlier
            else {
                value: self.train(recipe, datasets, 1, fewer, f"seed 1, {choice.key} = {value}").validation_loss
                for value, recipe in tried.items()
            }
        )
        best = min(losses, key=losses.__getitem__)
        print(f"{self.name}: {choice.key} = {best} has the lowest of {losses}", flush=True)
        return tried[best], losses, steps

    def _earlier(self) -> Record:
        """Return the last line of this recipe with other seeds, which began with a choice and with steps."""
        asked = (self.recipe.digest, self.track_name, self.minutes, self.documents.sha256)
        for trial in reversed(records_so_far(self.options.trials)):
            if (trial.recipe_sha256, trial.track, trial.minutes, trial.text_sha256) == asked:
                return trial
        raise ConfigError(
            f"{self.options.trials}: has no line of {self.name} with {self.minutes:g} minutes on {self.track_name}, "
            "whose steps later seeds would take; begin with seed 1"
        )

    def steps(self, recipe: Recipe, datasets: dict[str, Path]) -> int:
        """Return how many steps fit into the minutes.

        A run that ends by the clock follows it in its schedules and cannot be repeated; one that ends after steps can.
        So a short run by the clock, which no one counts, finds how many steps the minutes allow.
        """
        minutes = max(PACE_MINUTES, PACE_SHARE * self.minutes)
        if self.options.minutes:
            minutes = min(minutes, self.options.minutes / 4)
        trained = self._trained(Job(recipe, datasets, self.folder / "pace", 1, Limit(minutes=minutes)), "pace")
        steps_per_minute = trained.steps / (trained.minutes - trained.start_minutes)
        return max(1, int((MARGIN * self.minutes - trained.start_minutes) * steps_per_minute))

    def train_seeds(self, recipe: Recipe, datasets: dict[str, Path], steps: int) -> dict[int, Trained]:
        """Train all seeds with as many steps as fit into the minutes.

        Raises:
            TrainingError: steps that were given do not fit, or no number did.
        """
        # A trial of other minutes is told from its line; only a record has to fit.
        enforced = self.options.enforces_minutes and self.options.until != "measure"
        for _ in range(ATTEMPTS):
            trained: dict[int, Trained] = {}
            for seed in self.options.seeds:
                trained[seed] = self.train(recipe, datasets, seed, steps)
                if enforced and trained[seed].minutes > self.minutes:
                    break
            else:
                return trained
            used = max(each.minutes for each in trained.values())
            fewer = max(1, int(steps * MARGIN * self.minutes / used))
            message = f"{steps} steps took {used:.2f} of {self.minutes:g} minutes"
            if 1 not in self.options.seeds:
                raise TrainingError(
                    f"{self.name}: {message}, more than the first seed; use its machine, or --over-time"
                )
            if self.options.steps or fewer == steps:
                raise TrainingError(f"{self.name}: {message}, so this is no record; give --steps {fewer}")
            print(f"{self.name}: {message}; all seeds begin again with {fewer} steps", flush=True)
            steps = fewer
        raise TrainingError(f"{self.name}: no number of steps fitted into the minutes; use a quieter machine")

    def train(self, recipe: Recipe, datasets: dict[str, Path], seed: int, steps: int, name: str = "") -> Trained:
        # Of the digest, so that the seed with which a choice was made is not trained again.
        folder = self.folder / f"steps-{steps}" / f"{recipe.digest[:8]}-seed-{seed}"
        return self._trained(Job(recipe, datasets, folder, seed, Limit(steps=steps)), name or f"seed {seed}")

    def _trained(self, job: Job, title: str) -> Trained:
        finished = job.folder / "trained.json"
        if finished.exists():
            stored = Trained(**json.loads(finished.read_text(encoding="utf-8")))
            return stored._replace(checkpoint=str(job.folder / stored.checkpoint))
        if self.track.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                f"the track {self.track_name} trains on a GPU, and torch finds none here; give the same command where "
                "there is one, or --until prepare"
            )
        job.folder.mkdir(parents=True, exist_ok=True)
        trainer = TRAINERS[job.recipe.kind]
        for command in trainer.commands(job):
            self._execute(command, f"train, {title}", job.folder / "log.txt")
        device = torch.cuda.get_device_name() if self.track.device == "cuda" else processor()
        trained = trainer.result(job)._replace(
            processor=device, threads=self.threads, versions=versions(PACKAGES), code=code_version()
        )
        # Another machine, which evaluates, may have the folder elsewhere.
        stored = trained._replace(checkpoint=os.path.relpath(trained.checkpoint, job.folder))
        write_text(finished, json.dumps(stored._asdict(), indent=1) + "\n")
        print(
            f"{self.name}: {title}: {trained.steps} steps, {trained.minutes:.2f} minutes, {trained.flops:.3g} FLOPs, "
            f"validation loss {trained.validation_loss:.3f}",
            flush=True,
        )
        return trained

    def measure(self, trained: dict[int, Trained], datasets: dict[str, Path]) -> dict[int, HeldOut]:
        """Return how well each seed predicts the held-out documents."""
        dataset = next(iter(datasets.values()))
        return {seed: self.scoring.held_out(seed, each, dataset) for seed, each in trained.items()}

    def _quick_scores(self, trained: dict[int, Trained]) -> dict[str, Score]:
        if self.options.evaluation is None:
            return {}
        return read_scores([self.scoring.reports(seed, each, QUICK) for seed, each in trained.items()])

    @cached_property
    def scoring(self) -> Scoring:
        workers = self.options.workers
        count = (self.track.cores or 0) if workers is None else workers
        return Scoring(self.folder / "evaluation", self.options.evaluation, self._execute, count)

    def _execute(self, command: Sequence[str], title: str, log: Path) -> None:
        execute(command, f"{self.name}: {title}", log, self.options.deadline)
