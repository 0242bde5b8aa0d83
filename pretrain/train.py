"""The main path of a pretraining run: mesh -> learner -> shard -> engine -> batches -> resume -> loop."""

import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from configs import dump
from configs.errors import CheckpointError, ConfigError, TrainingError
from data_pipeline.dataset.shards import Dataset, open_dataset
from pretrain import learner
from pretrain.checkpoints import checkpoint, resume
from pretrain.checkpoints.initial_checkpoint import InitialCheckpoint, beginning
from pretrain.checkpoints.retention import Retention
from pretrain.config import RunConfig
from pretrain.data.batches import Batches, DataRank, check_lengths
from pretrain.data.prefetch import Prefetcher
from pretrain.initialization import materialise, random_rows
from pretrain.memory import build_within_memory
from pretrain.metrics import Reporter
from pretrain.models.family import Vocabulary
from pretrain.optimizers import OPTIMIZERS
from pretrain.parallel import agreed_precision
from pretrain.parallel import mesh as meshes
from pretrain.parallel.engine import Engine
from pretrain.parallel.placement import full_shape
from pretrain.parallel.recompute import recompute_blocks
from pretrain.parallel.tensor import shard
from pretrain.stop import Clock, Limits


def train(config: RunConfig, clock: Clock = time.monotonic) -> Path:
    """Train until ``config.steps`` or ``config.stop``, resuming from the newest checkpoint in ``config.output``; the
    last checkpoint.

    Raises:
        SesameError: the dataset, a checkpoint or the number of processes does not fit the configuration.
    """
    mesh = meshes.Mesh(config.parallel)
    try:
        return Run(config, mesh, clock).go()
    finally:
        mesh.close()


class Run:
    """Everything that a run is made of, in the order in which it is made."""

    def __init__(self, config: RunConfig, mesh: meshes.Mesh, clock: Clock = time.monotonic):
        self.config, self.mesh = config, mesh
        self.process = checkpoint.Process(mesh.rank, mesh.world, mesh.gather_objects)
        cut = config.data.cut(mesh.data)
        self.dataset = open_dataset(Path(config.data.dataset), verify=config.data.verify and mesh.is_rank_zero)
        vocabulary = Vocabulary(self.dataset.manifest.tokenizer.vocabulary_size, self.dataset.tokenizer_path)
        moments = len(OPTIMIZERS[config.optimizer.name].moments)
        model = build_within_memory(config.model, config.objectives, vocabulary, moments, mesh.device)
        check_lengths(self.dataset, model.backbone.positions)
        share = DataRank(mesh.data_rank, mesh.data)
        self.batches = Batches(self.dataset, config.data, model.reads, config.seed, share)
        self.prefetcher = Prefetcher(self.batches, config.data.loader_processes, config.steps)
        resumed = self._find_checkpoint()
        record = resumed[1] if resumed else None
        began = record.config if record else None
        parallel, self.precision = agreed_precision.resolve(config.parallel, mesh.device, began, mesh.gather_objects)
        self.config = config = config.model_copy(update={"parallel": parallel})
        self.origin = self._origin(resumed)
        self.engine = self._start_engine(model, cut)
        self.begun_with: InitialCheckpoint | None = None
        self.step = self._restore(*resumed) if resumed else self._begin()
        self.last_saved = resumed[0] if resumed else None
        self.limits = Limits(config.steps, config.stop, record, clock=clock, agree=mesh.from_rank_zero)
        self.retention = Retention(config.output, config.checkpoint.keep, mesh.is_rank_zero)
        baseline = unigram_baseline(self.dataset)
        self.reporter = Reporter(
            config.output, config.steps, self.step, baseline, config.report, mute=not mesh.is_rank_zero
        )
        self._log_start(sum(shape.numel() for shape in self.shapes.values()))

    def go(self) -> Path:
        """The loop."""
        config, report = self.config, self.config.report
        try:
            self.limits.start()
            if over := self.limits.over(self.step):
                self.reporter.say("this run is finished; raise steps or stop.minutes to train on")
            while not over:
                self._train_until(min(config.steps, self._next(report.every_steps)))
                if validated := self.step % report.validate_every_steps == 0:
                    self.validate()
                over = self.limits.over(self.step)
                if over and not validated:
                    self.validate()
                if over or self.step % config.checkpoint.save_every_steps == 0:
                    self.save()
        finally:
            self.close()
        # The validation loss of the last step was finite.
        self.retention.confirm()
        # Who leaves while another still works can take its own background threads down with an abort.
        self.mesh.barrier()
        if self.last_saved is None:
            raise CheckpointError(f"{config.output}: nothing was trained and nothing saved")
        return self.last_saved

    def close(self) -> None:
        """Let go of what works beside the loop."""
        self.prefetcher.close()
        self.reporter.close()
        self.engine.close()

    def train_step(self) -> tuple[dict[str, torch.Tensor], float, float, float]:
        """One optimizer step -> (mean losses of this process, gradient norm, tokens, operations)."""
        losses: dict[str, torch.Tensor] = {}
        tokens = operations = 0.0
        for number, batch in enumerate(self.prefetcher.step(self.step)):
            self._seed(number)
            for name, loss in self.engine.accumulate(batch.to(self.mesh.device)).items():
                losses[name] = losses.get(name, 0.0) + loss / self.batches.accumulation
            tokens += batch.tokens
            operations += self.engine.learner.flops(batch)
        norm = self.engine.step(self.learning_rate)
        self.step += 1
        return losses, norm, tokens, operations

    @property
    def learning_rate(self) -> float:
        """Of the next optimizer step."""
        factor = self.config.schedule.factor(self.step, self.config.steps, self.limits.expected_steps(self.step))
        return self.config.optimizer.learning_rate * factor

    def validate(self) -> dict[str, float]:
        """Mean losses over the first rows of the validation split; the same in every layout."""
        self.engine.train(False)
        sums: dict[str, torch.Tensor] = {}
        for batch in self.batches.validation_batches(self.config.report.validation_rows):
            for name, loss in self.engine.evaluate(batch.to(self.mesh.device)).items():
                sums[name] = sums.get(name, 0.0) + loss
        self.engine.train(True)
        losses = {name: float(self.mesh.sum_over_data(loss.clone())) for name, loss in sums.items()}
        self._require_finite(losses)
        self.reporter.validated(self.step, losses)
        return losses

    def save(self) -> None:
        """Write a checkpoint and drop old ones."""
        config = self.config
        manifest = self.dataset.manifest
        self.last_saved = checkpoint.save(
            config.output,
            self.engine,
            OPTIMIZERS[config.optimizer.name].moments,
            self.process,
            self.dataset.tokenizer_path,
            {
                "step": self.step,
                **self.origin.facts(self.batches.position(self.step)),
                "seconds": self.limits.seconds,
                "first_timed_step": self.limits.first_timed_step if self.limits.seconds else 0,
                "seed": config.seed,
                "vocabulary_size": manifest.tokenizer.vocabulary_size,
                "tokenizer_sha256": manifest.tokenizer.sha256,
                "config": dump(config),
                "shapes": self.shapes,
            },
        )
        self.retention.saved(self.last_saved)

    def _train_until(self, last: int) -> None:
        """Steps up to ``last``, at least one, or to the end of the time; and the report on them."""
        totals: dict[str, torch.Tensor] = {}
        tokens = operations = norm = 0.0
        learning_rate, first, done = 0.0, self.step, False
        while not done:
            learning_rate = self.learning_rate
            losses, norm, step_tokens, step_operations = self.train_step()
            totals = {name: totals.get(name, 0.0) + loss for name, loss in losses.items()}
            tokens, operations = tokens + step_tokens, operations + step_operations
            # DeepSpeed says -1 where the norm is not finite.
            self._require_finite({"gradient norm": norm if norm >= 0 else math.nan})
            # These gradients are of the newest checkpoint's weights, or of later ones.
            self.retention.confirm()
            done = self.limits.over(self.step) or self.step >= last
            self.reporter.advance(self.step, self.limits.expected_steps(self.step))
        means = self._mean_over_data(totals, self.step - first)
        self._require_finite(means)
        counts = self.mesh.sum_over_data(torch.tensor([tokens, operations], device=self.mesh.device)).tolist()
        facts = {"tokens": counts[0], "operations": counts[1], "learning_rate": learning_rate, "gradient_norm": norm}
        self.reporter.training(self.step, means, facts)

    def _mean_over_data(self, totals: Mapping[str, torch.Tensor], steps: int) -> dict[str, float]:
        summed = {name: self.mesh.sum_over_data(total.clone()) for name, total in totals.items()}
        return {name: float(total) / steps / self.mesh.data for name, total in summed.items()}

    def _require_finite(self, values: Mapping[str, float]) -> None:
        """Stop before a checkpoint is written whose weights are lost; all processes have the same values."""
        for name, value in values.items():
            if not math.isfinite(value):
                lost = self.retention.diverged()
                raise TrainingError(f"step {self.step}: {name} is {value}; {checkpoint.DIVERGED}{lost}")

    def _next(self, every: int) -> int:
        """The next step that is a multiple of ``every`` or at which something else is due."""
        due = (every, self.config.report.validate_every_steps, self.config.checkpoint.save_every_steps)
        return min((self.step // period + 1) * period for period in due)

    def _seed(self, number: int) -> None:
        """Dropout of a micro-batch follows from seed, step and its place, so a resumed run draws the same."""
        place = number * self.mesh.data + self.mesh.data_rank
        digest = hashlib.sha256(f"{self.config.seed}/{self.step}/{place}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def _start_engine(self, model: learner.Learner, batch: tuple[int, int]) -> Engine:
        shard(model, self.mesh)
        if self.config.parallel.recompute and not recompute_blocks(model):
            raise ConfigError(
                f"parallel.recompute: model.family '{self.config.model.family}' has no Transformer blocks; remove it"
            )
        self.shapes = {name: full_shape(parameter, self.mesh) for name, parameter in model.named_parameters()}
        # Values come after the engine has cut the weights up: it would round them before it makes its master copy.
        number_format = {"fp32": torch.float32, "bf16": torch.bfloat16}[self.config.parallel.precision]
        device = self.mesh.device
        materialise(model, lambda name, parameter: torch.zeros(parameter.shape, dtype=number_format, device=device))
        model.to(device)
        return Engine(model, self.config.optimizer, self.config.parallel, self.mesh, batch)

    def _begin(self) -> int:
        """Initial weights, the same in every layout -> the first step."""
        config = self.config
        rows = {
            name: random_rows(config.seed, name, shape, config.model.init_std) for name, shape in self.shapes.items()
        }
        if config.initial_checkpoint is not None:
            sha256 = self.dataset.manifest.tokenizer.sha256
            self.begun_with = beginning(config.initial_checkpoint, sha256, config.model, self.shapes, self.process)
            stored = checkpoint.stored(self.begun_with.folder, self.begun_with.record, "weights")
            rows |= {name: stored.rows(name) for name in self.shapes if name in stored.shapes}
        for name, whole in rows.items():
            self.engine.set_state(None, name, whole)
        return 0

    def _find_checkpoint(self) -> tuple[Path, checkpoint.Record] | None:
        folder = checkpoint.latest(self.config.output, self.process)
        if folder is None:
            return None
        if folder == self.config.output:
            raise CheckpointError(
                f"{folder}: is a checkpoint itself, so a run cannot write into it; choose another output folder, and "
                f"begin with its weights by --set initial_checkpoint={folder}"
            )
        record = checkpoint.read(folder, self.process)
        if record.tokenizer_sha256 != self.dataset.manifest.tokenizer.sha256:
            raise CheckpointError(
                f"{self.dataset.path}: was made with another tokenizer than the checkpoint {folder}; prepare the "
                "corpus with the checkpoint's tokenizer.model as [tokenizer] model, or choose another output folder"
            )
        return folder, record

    def _origin(self, resumed: tuple[Path, checkpoint.Record] | None) -> resume.Origin:
        """What this run goes on from, compared with its settings; the batches begin there."""
        origin = resume.origin(self.config, self.config.resume.accept, self.dataset, resumed)
        self.batches.start = origin.start
        return origin

    def _restore(self, folder: Path, record: checkpoint.Record) -> int:
        moments = OPTIMIZERS[self.config.optimizer.name].moments
        checkpoint.restore(folder, record, self.engine, moments, self.shapes)
        return record.step

    def _log_start(self, parameters: int) -> None:
        config, mesh = self.config, self.mesh
        spread = f", experts over {mesh.expert}" if mesh.expert > 1 else ""
        self.reporter.say(
            f"{config.model.family} with {parameters:,} parameters on {mesh.world} x {mesh.device.type} "
            f"(tensor {mesh.tensor} x data {mesh.data}{spread}, ZeRO {config.parallel.zero_stage}) in "
            f"{self.precision}; {self.batches.train.rows:,} training rows; " + self.limits.describe(self.step)
        )
        if self.begun_with is not None:
            self.reporter.say(self.begun_with.said)
        if self.origin.new_changes:
            self.reporter.say(f"changed since the checkpoint: {resume.describe(self.origin.new_changes)}")
        if self.batches.train.rows < config.data.global_batch:
            self.reporter.say(
                f"data.global_batch {config.data.global_batch} is larger than the {self.batches.train.rows:,} training "
                "rows: each step sees some of them several times"
            )


def unigram_baseline(dataset: Dataset) -> float | None:
    """Cross-entropy (nats) on the validation labels under their frequencies in the training split."""
    return dataset.manifest.unigram_cross_entropy_validation
