"""Experiment trackers: TensorBoard, Weights & Biases, MLflow. Each gets every number of the JSON lines.

Only the first process has trackers. A resumed run continues the same run of a tracker, whose identity is in
``trackers.json`` of the output folder.
"""

import io
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from sesame.configs.errors import ConfigError, SesameError, one_line
from sesame.configs.storage import append, write_text

IDENTITIES = "trackers.json"
PROJECT = "sesame"


class TrackedRun(NamedTuple):
    """The run that a tracker shows."""

    output: Path
    first_step: int
    """Step at which the run starts or resumes."""
    config: Mapping[str, Any]
    """The resolved configuration as plain JSON."""

    def identity(self, tracker: str, create: Callable[[], str]) -> str:
        """Return the identity of this run in ``tracker``: the stored one, or a new one, which is stored."""
        path = self.output / IDENTITIES
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            known = {}
        if isinstance(known, dict) and isinstance(known.get(tracker), str):
            return known[tracker]
        identity = create()
        write_text(path, json.dumps({**(known if isinstance(known, dict) else {}), tracker: identity}) + "\n")
        return identity


Outcome = Literal["finished", "stopped", "failed"]
"""How a run ends; one that was stopped can be resumed."""


MLFLOW_STATUS: dict[Outcome, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class Tracker(Protocol):
    """Shows a run's numbers."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step."""

    def close(self, outcome: Outcome) -> None:
        """Send or write what is left, and how the run ended."""


class TensorBoard:
    """An event file in ``OUTPUT/tensorboard``, written at once and not by a thread, whose errors nobody would get."""

    def __init__(self, run: TrackedRun):
        folder = run.output / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        # Steps that a killed run has logged after its last checkpoint are hidden.
        first = run.first_step + 1
        self._write(first, file_version="brain.Event:2")
        self._write(first, session_log={"status": "START"})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, summary={"value": [{"tag": name, "simple_value": value} for name, value in values.items()]})

    def close(self, outcome: Outcome) -> None:
        """Nothing is left to write."""

    def _write(self, step: int, **fields: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        events: Any = import_module("tensorboard.compat.proto.event_pb2")
        record = io.BytesIO()
        RecordWriter(record).write(events.Event(wall_time=time.time(), step=step, **fields).SerializeToString())
        append(self._path, record.getvalue())


class WandB:
    """A run of Weights & Biases; ``WANDB_MODE=offline`` writes to ``OUTPUT/wandb``, ``WANDB_PROJECT`` and its other
    variables count."""

    def __init__(self, run: TrackedRun):
        wandb: Any = import_module("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=run.output,
            name=str(run.output),
            id=run.identity("wandb", lambda: secrets.token_hex(4)),
            resume="allow",
            config=dict(run.config),
            settings=wandb.Settings(console="off", silent=True),
        )
        # wandb's own step never goes back, but that of a run that is resumed from an older checkpoint does.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self, outcome: Outcome) -> None:
        if outcome == "stopped":
            # Shown as preempted, not as failed.
            self._run.mark_preempting()
        self._run.finish(exit_code=int(outcome != "finished"))


class MLflow:
    """A run of MLflow: at ``MLFLOW_TRACKING_URI``, or in ``OUTPUT/mlruns``."""

    def __init__(self, run: TrackedRun):
        # MLflow 3 asks for a database instead of files unless this is set.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._metric: Any = import_module("mlflow.entities").Metric
        store = os.environ.get("MLFLOW_TRACKING_URI") or (run.output / "mlruns").resolve().as_uri()
        self._client: Any = import_module("mlflow.tracking").MlflowClient(tracking_uri=store)
        self._id = run.identity("mlflow", lambda: self._create(run))
        self._client.update_run(self._id, status="RUNNING")

    def _create(self, run: TrackedRun) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        identity = self._client.create_run(number, run_name=str(run.output)).info.run_id
        for key, value in flat(run.config):
            self._client.log_param(identity, key, value)
        return identity

    def log(self, step: int, values: Mapping[str, float]) -> None:
        moment = round(1000 * time.time())
        self._client.log_batch(self._id, [self._metric(name, value, moment, step) for name, value in values.items()])

    def close(self, outcome: Outcome) -> None:
        self._client.set_terminated(self._id, MLFLOW_STATUS[outcome])


class TrackerKind(NamedTuple):
    """A row of ``TRACKERS``."""

    start: Callable[[TrackedRun], Tracker]
    package: str
    """Import name."""
    install: str
    """What to install if the package is missing."""
    advice: str
    """If it does not start."""


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind(TensorBoard, "tensorboard", "tensorboard", "see the message above"),
    "wandb": TrackerKind(WandB, "wandb", "sesame[wandb]", "run `wandb login`, or set WANDB_MODE=offline"),
    "mlflow": TrackerKind(MLflow, "mlflow", "sesame[mlflow]", "see whether MLFLOW_TRACKING_URI is right"),
}


def check_installed(names: Sequence[str]) -> None:
    """Check the packages of trackers before anything is written.

    Raises:
        ConfigError: one of them is not installed.
    """
    for name in names:
        if find_spec(TRACKERS[name].package) is None:
            raise ConfigError(
                f"report.trackers: {name} is not installed; run pip install '{TRACKERS[name].install}', or remove it "
                "from report.trackers"
            )


class Trackers:
    """The trackers of a run. One that fails is left out from then on, and training goes on."""

    def __init__(self, names: Sequence[str], run: TrackedRun, log: Callable[[str], None]):
        """
        Args:
            log: prints a message.

        Raises:
            ConfigError: one of them does not start.
        """
        self._run, self._log = run, log
        self._running: dict[str, Tracker] = {}
        for name in names:
            try:
                self._running[name] = TRACKERS[name].start(run)
            except (SesameError, OSError):
                raise
            except Exception as error:
                raise ConfigError(
                    f"report.trackers: {name} does not start: {one_line(error)[:300]}; {TRACKERS[name].advice}"
                ) from error

    def rewind(self, step: int) -> None:
        """Close all of them and start them again at ``step``, which the run has gone back to."""
        self.close("stopped")
        for name in list(self._running):
            try:
                self._running[name] = TRACKERS[name].start(self._run._replace(first_step=step))
            except Exception as error:
                self._leave_out(name, error)

    def log(self, row: Mapping[str, Any]) -> None:
        """Give a JSON line to each tracker."""
        values = {name: float(value) for name, value in flat(row) if isinstance(value, int | float) and name != "step"}
        self._each("log", row["step"], values)

    def close(self, outcome: Outcome = "finished") -> None:
        """Close all of them."""
        self._each("close", outcome)

    def _each(self, method: str, *arguments: Any) -> None:
        for name, tracker in list(self._running.items()):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        del self._running[name]
        self._log(f"{name}: {one_line(error)[:300]}; the run goes on without this tracker")


def flat(values: Mapping[str, Any], separator: str = "/", prefix: str = "") -> list[tuple[str, Any]]:
    """Return (name, value) of all values, those of nested tables named ``table/name``."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        pairs += flat(value, separator, f"{prefix}{name}{separator}") if nested else [(prefix + name, value)]
    return pairs
