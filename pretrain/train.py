"""Pretraining: mesh -> learner -> batches -> engine -> resume -> loop."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import SupportsFloat

import torch

from sesame.configs import dump
from sesame.configs.errors import CheckpointError, ConfigError, TrainingError
from sesame.configs.stopping import Stopped, StopRequest
from sesame.configs.storage import locked_folder
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain import precision
from sesame.pretrain.checkpoints.host_copy import HostCopy
from sesame.pretrain.checkpoints.initial_checkpoint import InitialCheckpoint, initialize, open_initial_checkpoint
from sesame.pretrain.checkpoints.load import Checkpoint, Process
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.resume import find_checkpoint, restore, resume_state
from sesame.pretrain.checkpoints.retention import Retention
from sesame.pretrain.checkpoints.save import DIVERGED, CheckpointWriter
from sesame.pretrain.checkpoints.saver import Saver
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank, check_lengths
from sesame.pretrain.data.prefetch import Prefetcher
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.memory import build_within_memory
from sesame.pretrain.metrics import MetricSums, Reporter, StepMetrics
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers import OPTIMIZERS
from sesame.pretrain.parallel import agreed_precision
from sesame.pretrain.parallel import mesh as meshes
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.parallelize import parallelize
from sesame.pretrain.stop import Clock, StepAgreement, TrainingBudget


def train(
    config: RunConfig,
    output: Path | None = None,
    *,
    clock: Clock = time.monotonic,
    request: StopRequest | None = None,
) -> Path:
    """Train until ``config.steps`` or ``config.stop``, resuming from the newest checkpoint in the output folder.

    Args:
        output: folder for checkpoints and metrics; None: ``config.output``.
        request: noted signals that stop the run after a step; None: it is not stopped so.

    Returns:
        The folder of the last checkpoint.

    Raises:
        SesameError: the dataset, a checkpoint or the number of processes does not fit the configuration.
        Stopped: a signal was noted, and a checkpoint is written.
    """
    if output is not None:
        config = config.model_copy(update={"output": output})
    mesh = meshes.Mesh(config.parallel)
    try:
        with _locked(config.output, mesh):
            return Run(config, mesh, clock, request).run()
    finally:
        mesh.close()


class Run:
    """A pretraining run: its parts, in the order in which they are made, and its loop."""

    def __init__(
        self, config: RunConfig, mesh: meshes.Mesh, clock: Clock = time.monotonic, request: StopRequest | None = None
    ):
        self.mesh = mesh
        process = Process(mesh.rank, mesh.world, mesh.gather_objects)
        moments = OPTIMIZERS[config.optimizer.name].moments
        batch_plan = config.data.batch_plan(mesh.data)

        self.dataset = open_dataset(Path(config.data.dataset), verify=config.data.verify and mesh.is_rank_zero)
        vocabulary = Vocabulary(self.dataset.manifest.tokenizer.vocabulary_size, self.dataset.tokenizer_path)
        learner = build_within_memory(config.model, config.objectives, vocabulary, len(moments), mesh.device)
        check_lengths(self.dataset, learner.backbone.positions)
        data_rank = DataRank(mesh.data_rank, mesh.data)
        self.batches = Batches(self.dataset, config.data, learner.reads, config.seed, data_rank)
        self.prefetcher = Prefetcher(self.batches, config.data.loader_processes, config.steps)
        self.learner = learner

        checkpoint = find_checkpoint(config.output, self.dataset, process)
        self.config, self.precision = _resolve_precision(config, mesh, checkpoint)
        self.resume_state = resume_state(self.config, config.resume.accept, self.dataset, checkpoint)
        self.batches.start = self.resume_state.start

        self.shapes = parallelize(learner, config.model.family, self.config.parallel, mesh)
        self.engine = Engine(learner, config.optimizer, self.config.parallel, mesh, batch_plan)
        initial = None
        if checkpoint is not None:
            restore(checkpoint, self.engine, moments, self.shapes)
        else:
            tokenizer_sha256 = self.dataset.manifest.tokenizer.sha256
            initial = open_initial_checkpoint(
                config.initial_checkpoint, tokenizer_sha256, config.model, self.shapes, process
            )
            initialize(self.engine, self.shapes, config.seed, config.model, initial)
        record = checkpoint.record if checkpoint else None
        self.step = record.step if record else 0

        self.budget = TrainingBudget(config.steps, config.stop, record, clock=clock, from_rank_zero=mesh.from_rank_zero)
        save_minutes = config.checkpoint.save_every_minutes if mesh.is_rank_zero else None
        self.agreement = StepAgreement(request or StopRequest(), save_minutes, mesh.ask_any, clock=clock)
        writer = CheckpointWriter(
            config.output,
            self.engine,
            moments,
            self.shapes,
            self.dataset.tokenizer_path,
            process._replace(gather=mesh.gather_for_saving),
            HostCopy(mesh.device) if config.checkpoint.background else None,
        )
        retention = Retention(config.output, config.checkpoint.keep, mesh.is_rank_zero)
        self.saver = Saver(writer, retention, checkpoint.folder if checkpoint else None)
        self.metrics = MetricSums()
        self.unchecked_norms: list[tuple[int, SupportsFloat]] = []
        baseline = self.dataset.manifest.unigram_cross_entropy_validation
        self.reporter = Reporter(
            config.output, config.steps, self.step, baseline, config.report, quiet=not mesh.is_rank_zero
        )
        self._log_start(initial)

    def run(self) -> Path:
        """Train to the end and return the folder of the last checkpoint."""
        report, save_every = self.config.report, self.config.checkpoint.save_every_steps
        try:
            self.budget.start()
            if ended := self.budget.is_used_up(self.step):
                self.reporter.log("this run is finished; raise steps or stop.minutes to train on")
            if self.step and (ended or self.is_due(report.validate_every_steps)):
                self.repeat_interrupted_validation()
            self.agreement.ask()
            stopped = self.agreement.answer().stops
            while not ended and not stopped:
                self.agreement.ask(is_writing=self.saver.is_writing)
                self.metrics.add(self.train_step())
                self.check_gradients()
                ended = self.budget.is_used_up(self.step)
                self.reporter.update_progress(
                    self.step, self.budget.expected_steps(self.step), self.budget.seconds_left
                )
                answer = self.agreement.answer()
                if not answer.is_writing:
                    self.saver.finish()
                stopped, saves = answer.stops, answer.stops or answer.saves or self.is_due(save_every)
                # A resumed run counts from its checkpoint, so nothing may be left to report when one is saved.
                if ended or saves or self.is_due(report.every_steps, report.validate_every_steps):
                    self.report()
                if ended or self.is_due(report.validate_every_steps):
                    stopped = stopped or not self.validate()
                    # Validation takes time as well.
                    ended = not stopped and (ended or self.budget.is_used_up(self.step))
                if ended or saves or stopped:
                    self.save()
            self.saver.finish()
        finally:
            self.close()
        if ended:
            # The validation loss of the last step was finite.
            self.saver.confirm()
        checkpoint = self.finish()
        if not ended:
            raise Stopped(self._stop_message(checkpoint))
        if checkpoint is None:
            raise CheckpointError(f"{self.config.output}: nothing was trained and nothing saved")
        return checkpoint

    def train_step(self) -> StepMetrics:
        """Take one optimizer step."""
        losses: dict[str, torch.Tensor] = {}
        tokens = flops = 0.0
        learning_rate = self.learning_rate
        for number, batch in enumerate(self.prefetcher.step(self.step)):
            self._seed_dropout(number)
            for name, loss in self.engine.accumulate(batch.to(self.mesh.device)).items():
                losses[name] = losses.get(name, 0.0) + loss / self.batches.accumulation
            tokens += batch.tokens
            flops += self.learner.flops(batch)
        self.saver.before_update()
        norm = self.engine.step(learning_rate)
        self.step += 1
        self.mesh.watchdog.step = self.step
        return StepMetrics(losses, norm, tokens, flops, learning_rate)

    def check_gradients(self) -> None:
        """Stop if a gradient norm is not finite; else the newest checkpoint is confirmed.

        The norm that a GPU is computing is checked a step later, or by ``report``, without which nothing is saved.
        """
        norm = self.metrics.gradient_norm
        self.unchecked_norms.append((self.step, norm))
        self._check_norms(all_but=int(isinstance(norm, DeviceNumber) and norm.is_late))

    def _check_norms(self, all_but: int = 0) -> None:
        while len(self.unchecked_norms) > all_but:
            step, norm = self.unchecked_norms.pop(0)
            # DeepSpeed returns -1 for a norm that is not finite.
            self._require_finite({"gradient norm": float(norm) if float(norm) >= 0 else math.nan}, step)
            # These gradients are those of the newest checkpoint's weights, or of later ones.
            self.saver.confirm()

    def report(self) -> None:
        """Report the metrics since the last report."""
        self._check_norms()
        metrics = self.metrics.reduce(self.mesh.sum_over_data, self.mesh.data)
        self.metrics = MetricSums()
        self._require_finite(metrics.losses)
        self.reporter.report_training(self.step, metrics, self.saver.seconds)

    def validate(self) -> bool:
        """Report mean losses over the first rows of the validation split; they do not depend on the layout.

        Returns:
            False if a signal has interrupted it; nothing is reported then.
        """
        self.engine.train(False)
        sums: dict[str, torch.Tensor] = {}
        stopped = False
        for batch in self.batches.validation_batches(self.config.report.validation_rows):
            self.agreement.ask()
            for name, loss in self.engine.evaluate(batch.to(self.mesh.device)).items():
                sums[name] = sums.get(name, 0.0) + loss
            if stopped := self.agreement.answer().stops:
                break
        self.engine.train(True)
        if not stopped:
            losses = {name: float(self.mesh.sum_over_data(loss.clone())) for name, loss in sums.items()}
            self._require_finite(losses)
            self.reporter.report_validation(self.step, losses)
        return not stopped

    def repeat_interrupted_validation(self) -> None:
        """Validate if that is missing in the reports of the run that is resumed."""
        if self.mesh.from_rank_zero(float(self.reporter.validated_step != self.step)):
            self.validate()

    def save(self) -> None:
        """Begin to write a checkpoint; older ones are removed when training has continued from it."""
        tokenizer, state = self.dataset.manifest.tokenizer, self.resume_state
        metadata = CheckpointMetadata(
            step=self.step,
            samples=state.dataset_first_sample + self.batches.position(self.step),
            dataset_sha256=state.dataset_sha256,
            dataset_first_sample=state.dataset_first_sample,
            seconds=self.budget.seconds,
            first_timed_step=self.budget.first_timed_step if self.budget.seconds else 0,
            seed=self.config.seed,
            vocabulary_size=tokenizer.vocabulary_size,
            tokenizer_sha256=tokenizer.sha256,
            config=dump(self.config),
            changes=state.changes,
        )
        self.saver.start(metadata)
        self.agreement.saved()

    def close(self) -> None:
        """Stop background work, close files and release the model."""
        self.prefetcher.close()
        self.saver.close()
        self.reporter.close()
        self.engine.close()

    def finish(self) -> Path | None:
        """Wait for all processes and return the folder of the last checkpoint."""
        # A process that exits while another one still works can abort it.
        self.mesh.watchdog.close()
        self.mesh.barrier()
        return self.saver.last

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next optimizer step."""
        expected_steps = self.budget.expected_steps(self.step)
        return self.config.optimizer.learning_rate * self.config.schedule.factor(
            self.step, self.config.steps, expected_steps
        )

    def is_due(self, *periods: int) -> bool:
        """Return whether the step is a multiple of one of ``periods``."""
        return any(self.step % period == 0 for period in periods)

    def _stop_message(self, checkpoint: Path | None) -> str:
        saved = f"after step {self.step}, saved as {checkpoint}" if checkpoint else "before the first step"
        return f"stopped by {self.agreement.request.reason} {saved}; the same command continues"

    def _require_finite(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Stop before unusable weights are saved; all processes have the same ``values``."""
        for name, value in values.items():
            if not math.isfinite(value):
                renamed = self.saver.diverged()
                raise TrainingError(f"step {step or self.step}: {name} is {value}; {DIVERGED}{renamed}")

    def _seed_dropout(self, number: int) -> None:
        """Seed dropout by step and position of the micro-batch, so that a resumed run draws the same."""
        position = number * self.mesh.data + self.mesh.data_rank
        digest = hashlib.sha256(f"{self.config.seed}/{self.step}/{position}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def _log_start(self, initial: InitialCheckpoint | None) -> None:
        config, mesh = self.config, self.mesh
        parameters = sum(shape.numel() for shape in self.shapes.values())
        experts = f", experts over {mesh.expert}" if mesh.expert > 1 else ""
        self.reporter.log(
            f"{config.model.family} with {parameters:,} parameters on {mesh.world} x {mesh.device.type} "
            f"(tensor {mesh.tensor} x data {mesh.data}{experts}, ZeRO {config.parallel.zero_stage}) in "
            f"{self.precision}; {self.batches.train.rows:,} training rows; {self.budget.describe(self.step)}"
        )
        for message in (initial.message if initial else "", self.resume_state.message, self.batches.message):
            if message:
                self.reporter.log(message)


@contextmanager
def _locked(output: Path, mesh: meshes.Mesh) -> Iterator[None]:
    """Keep other runs out of the output folder; a collective.

    Raises:
        ConfigError: another run writes there.
    """
    with locked_folder(output) if mesh.is_rank_zero else nullcontext(True) as is_locked:
        if not mesh.from_rank_zero(float(is_locked)):
            raise ConfigError(
                f"{output}: another run writes into this folder; wait for it or stop it, or choose another --output"
            )
        yield


def _resolve_precision(
    config: RunConfig, mesh: meshes.Mesh, checkpoint: Checkpoint | None
) -> tuple[RunConfig, precision.Precision]:
    """Return the configuration with its precision in place of "auto", and that precision."""
    before = checkpoint.record.config if checkpoint else None
    parallel, chosen = agreed_precision.resolve(config.parallel, mesh.device, before, mesh.gather_objects)
    return config.model_copy(update={"parallel": parallel}), chosen
