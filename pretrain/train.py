"""Pretraining: mesh -> learner -> batches -> engine -> resume -> loop."""

import sys
import time
from pathlib import Path

import torch

from sesame.configs.errors import CheckpointError
from sesame.configs.stopping import Stopped, StopRequest
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain import start
from sesame.pretrain.checkpoint_metadata import checkpoint_metadata
from sesame.pretrain.checkpoints.initial_checkpoint import InitialCheckpoint
from sesame.pretrain.checkpoints.load import Checkpoint, Process
from sesame.pretrain.checkpoints.resume import find_checkpoint, restore, resume_state
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import DataRank
from sesame.pretrain.data.prefetch import Prefetcher
from sesame.pretrain.dropout_seed import seed_dropout
from sesame.pretrain.memory import build_within_memory
from sesame.pretrain.metrics import MetricSums, Reporter, StepMetrics
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers import optimizer_kind
from sesame.pretrain.parallel import mesh as meshes
from sesame.pretrain.parallel.deterministic import deterministic_kernels
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.parallelize import parallelize
from sesame.pretrain.planning.peak import Peak, device_peak
from sesame.pretrain.reporting.profiler import StepProfiler
from sesame.pretrain.reporting.trackers import Outcome, check_installed
from sesame.pretrain.reporting.usage import UsageMeter
from sesame.pretrain.run_data import open_batches, stage_positions, start_data
from sesame.pretrain.stop import Clock, StepAgreement, TrainingBudget
from sesame.pretrain.validation import validation_losses
from sesame.pretrain.watch.gradients import gradients_again
from sesame.pretrain.watch.layers import LayerMeter
from sesame.pretrain.watch.place import Gradients
from sesame.pretrain.watch.watch import Watch


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
    check_installed(config.report.all_trackers)
    mesh = meshes.Mesh(config.parallel)
    try:
        with start.only_run_in(config.output, mesh), deterministic_kernels(config.watch.deterministic):
            return Run(config, mesh, clock, request).run()
    finally:
        mesh.close()


class Run:
    """A pretraining run: its parts, in the order in which they are made, and its loop."""

    def __init__(
        self, config: RunConfig, mesh: meshes.Mesh, clock: Clock = time.monotonic, request: StopRequest | None = None
    ):
        self.mesh = mesh
        self.process = process = Process(mesh.rank, mesh.world, mesh.gather_objects)
        self.kind = kind = optimizer_kind(config.optimizer)
        batch_plan = config.data.batch_plan(mesh.data)

        verify = config.data.verify and mesh.is_rank_zero
        self.dataset = open_dataset(Path(config.data.dataset), verify=verify)
        vocabulary = Vocabulary(self.dataset.manifest.tokenizer.vocabulary_size, self.dataset.tokenizer_path)
        learner = build_within_memory(config.model, config.objectives, vocabulary, kind.fewest_moments, mesh.device)
        config.loss.apply(learner)
        data_rank, positions = DataRank(mesh.data_rank, mesh.data), learner.backbone.positions
        self.batches = open_batches(config, self.dataset, learner.reads, positions, data_rank, verify)
        self.learner = learner

        checkpoint = find_checkpoint(config.output, self.dataset, process)
        self.config, self.precision = start.resolve_precision(config, mesh, checkpoint)
        self.resume_state = resume_state(self.config, config.resume.accept, self.dataset, checkpoint)
        record = checkpoint.record if checkpoint else None
        self.steps = start_data(config, self.batches, self.resume_state, record)
        self.adaptive_masking = start.open_adaptive_masking(config, learner, self.batches, mesh)
        self.prefetcher = Prefetcher(self.batches, config.data.loader_processes, self.steps)

        self.shapes = parallelize(learner, config.model.family, self.config.parallel, mesh)
        self.engine = Engine(learner, config.optimizer, self.config.parallel, mesh, batch_plan)
        initial = None
        if checkpoint is not None:
            self.restore(checkpoint)
        else:
            initial = start.set_initial_weights(self.engine, config, self.dataset, self.shapes, process)
        self.step = record.step if record else 0

        self.budget = TrainingBudget(self.steps, config.stop, record, clock=clock, from_rank_zero=mesh.from_rank_zero)
        save_minutes = config.checkpoint.save_every_minutes if mesh.is_rank_zero else None
        self.agreement = StepAgreement(request or StopRequest(), save_minutes, mesh.ask_any, clock=clock)
        place = config.output, config.checkpoint, self.dataset.tokenizer_path, checkpoint
        self.saver = start.open_saver(self.engine, kind, self.shapes, mesh, *place)
        self.metrics = MetricSums()
        baseline = self.dataset.manifest.unigram_cross_entropy_validation
        peak = device_peak(mesh.device, self.precision, config.report.machine)
        all_flops = peak.flops * mesh.world if peak.flops else None
        self.reporter = Reporter(config.output, self.steps, self.step, baseline, not mesh.is_rank_zero, all_flops)
        self.usage = UsageMeter(mesh.timer, mesh.device, mesh.rank, mesh.world)
        self.profiler = StepProfiler(config.report, config.output, mesh.rank, mesh.timer, self.reporter.log)
        self.watch = Watch(self.config, record, self.resume_state, self.batches, mesh, self.saver, self.reporter.log)
        self.layers = LayerMeter(config.watch.layers_every_steps, self.engine, self.reporter.report_layers)
        self._log_start(initial, peak)

    def run(self) -> Path:
        """Train to the end and return the folder of the last checkpoint."""
        report, save_every = self.config.report, self.config.checkpoint.save_every_steps
        ended = False
        try:
            self.budget.start()
            if ended := self.budget.is_used_up(self.step):
                self.reporter.log("this run is finished; raise steps or the limits of [stop] to train on")
            if self.step and (ended or self.is_due(report.validate_every_steps)):
                self.repeat_interrupted_validation()
            self.agreement.ask()
            stopped = self.agreement.answer().stops
            while not ended and not stopped:
                self.agreement.ask(is_writing=self.saver.is_writing)
                with self.profiler.step(self.step + 1):
                    metrics = self.train_step()
                must_go_back = self.watch.check(self.step, metrics, self.gradients_again)
                self.metrics.add(metrics, is_skipped=self.watch.is_skipped)
                ended = self.budget.is_used_up(self.step)
                self.reporter.update_progress(
                    self.step, self.budget.expected_steps(self.step), self.budget.seconds_left
                )
                answer = self.agreement.answer()
                if not answer.is_writing:
                    self.saver.finish()
                stopped, saves = answer.stops, answer.stops or answer.saves or self.is_due(save_every)
                # A resumed run counts from its checkpoint, so nothing may be left to report when one is saved.
                is_reported = ended or saves or self.is_due(report.every_steps, report.validate_every_steps)
                if must_go_back or (is_reported and self.watch.finish(self.gradients_again)):
                    self.go_back()
                    ended = False
                    continue
                if is_reported:
                    self.report()
                if ended or self.is_due(report.validate_every_steps):
                    stopped = stopped or not self.validate()
                    # Validation takes time as well.
                    ended = not stopped and (ended or self.budget.is_used_up(self.step))
                if ended or saves or stopped:
                    self.save()
            self.saver.finish()
        finally:
            self.close("failed" if sys.exception() else "finished" if ended else "stopped")
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
        self._follow_schedules()
        for number, batch in enumerate(self.mesh.timer.iterate("data", self.prefetcher.step(self.step))):
            self._seed_dropout(self.step, number)
            micro_batch_losses = self.engine.accumulate(batch.to(self.mesh.device))
            self.watch.add(micro_batch_losses, self.learner.weights)
            self.adaptive_masking.add(is_causal=batch.causal)
            for name, loss in micro_batch_losses.items():
                losses[name] = losses.get(name, 0.0) + loss / self.batches.accumulation
            tokens += batch.tokens
            flops += self.learner.flops(batch)
        self.saver.before_update()
        with self.layers.around_update(self.step + 1, lambda: next(self.batches.step(self.step))):
            norm = self.engine.step(learning_rate, self.watch.judge())
        self.step += 1
        self.adaptive_masking.finish_step(self.step, was_applied=self.engine.gate.was_applied)
        self.mesh.watchdog.step = self.step
        return StepMetrics(losses, norm, tokens, flops, learning_rate, self.engine.has_overflowed)

    def gradients_again(self, step: int) -> Gradients | None:
        """Return the gradients of each micro-batch of the last step; None if it has changed the weights."""
        return gradients_again(
            self.engine, self.batches.step(step - 1), self.mesh, lambda number: self._seed_dropout(step - 1, number)
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from the state of a checkpoint."""
        restore(checkpoint, self.engine, self.kind, self.shapes)
        stored, has_sums = checkpoint.record.adaptive_masking, self.mesh.is_rank_zero
        self.adaptive_masking.restore(stored, checkpoint.folder, has_sums=has_sums)

    def go_back(self) -> None:
        """Continue from the newest checkpoint, without the samples of the step that the watch has found."""
        checkpoint = self.watch.go_back(self.saver.reopen(self.process))
        self.restore(checkpoint)
        self.step, self.metrics = checkpoint.record.step, MetricSums()
        self.prefetcher.close()
        self.usage.restart(self.saver.seconds)
        self.reporter.rewind(self.step)

    def report(self) -> None:
        """Report the metrics since the last report, if a step was not skipped since."""
        if not self.metrics.steps:
            return
        metrics = self.metrics.reduce(self.mesh.sum_over_data, self.mesh.data)
        usage = self.usage.read(self.metrics.taken, self.saver.seconds, self.mesh.sum_over_all)
        self.metrics = MetricSums()
        self.watch.require_finite(metrics.losses, self.step)
        self.watch.compare_times(self.step, usage.rank_seconds)
        self.reporter.report_training(self.step, metrics, self.saver.seconds, usage)
        if self.engine.loss_scale and (message := self.engine.loss_scale.message()):
            self.reporter.log(f"step {self.step}: {message}")

    def validate(self) -> bool:
        """Report mean losses over the first rows of the validation split.

        Returns:
            False if a signal has interrupted it; nothing is reported then.
        """
        losses = validation_losses(
            self.engine, self.batches, self.config.report.validation_rows, self.mesh, self.agreement
        )
        if losses is not None:
            self.watch.require_finite(losses, self.step)
            self.reporter.report_validation(self.step, losses)
        return losses is not None

    def repeat_interrupted_validation(self) -> None:
        """Validate if that is missing in the reports of the run that is resumed."""
        if self.mesh.from_rank_zero(float(self.reporter.validated_step != self.step)):
            self.validate()

    def save(self) -> None:
        """Begin to write a checkpoint; older ones are removed when training has continued from it."""
        metadata = checkpoint_metadata(
            self.config,
            self.dataset.manifest,
            self.resume_state,
            self.budget,
            self.watch.watched,
            step=self.step,
            position=self.batches.position(self.step),
            stages=stage_positions(self.batches, self.step),
            processes=self.mesh.world,
            loss_scale=self.engine.loss_scale.state if self.engine.loss_scale else None,
            adaptive_masking=self.adaptive_masking.state,
        )
        self.saver.start(metadata)
        self.agreement.saved()

    def close(self, outcome: Outcome = "finished") -> None:
        """Stop background work, close files and release the model."""
        self.profiler.close()
        self.prefetcher.close()
        self.saver.close()
        self.reporter.close(outcome)
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
        return self.config.optimizer.learning_rate * self.config.schedule.factor(self.step, self.steps, expected_steps)

    def _follow_schedules(self) -> None:
        """Set what changes over the run, for the next step."""
        fraction = self.budget.fraction(self.step)
        self.batches.begin(self.step, fraction)
        self.engine.set_accumulation(self.batches.accumulation)
        self.learner.weights.update(self.config.schedule.objective_weights(fraction))

    def is_due(self, *periods: int) -> bool:
        """Return whether the step is a multiple of one of ``periods``."""
        return any(self.step % period == 0 for period in periods)

    def _stop_message(self, checkpoint: Path | None) -> str:
        saved = f"after step {self.step}, saved as {checkpoint}" if checkpoint else "before the first step"
        return f"stopped by {self.agreement.request.reason} {saved}; the same command continues"

    def _seed_dropout(self, step: int, number: int) -> None:
        seed_dropout(self.config.seed, step, number * self.mesh.data + self.mesh.data_rank)

    def _log_start(self, initial: InitialCheckpoint | None, peak: Peak) -> None:
        parameters, rows = sum(shape.numel() for shape in self.shapes.values()), self.batches.train.rows
        described = start.describe(self.config, self.mesh, self.precision, parameters, rows)
        self.reporter.log(f"{described}; {self.budget.describe(self.step)}")
        known = start.facts(self.config, self.mesh, parameters, rows, peak, self.budget)
        self.reporter.start(self.config.report.all_trackers, known)
        for message in filter(None, (initial and initial.message, self.resume_state.message, self.batches.message)):
            self.reporter.log(message)
