"""Configuration of a pretraining run: one TOML file; each section is defined beside the code that it configures."""

from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.configs.kinds import Derived, Fixed, Free
from sesame.pretrain import run_length
from sesame.pretrain.checkpoints.config import CheckpointConfig, ResumeConfig
from sesame.pretrain.checkpoints.resume import check_accepted
from sesame.pretrain.data.batches import DataConfig
from sesame.pretrain.models import FAMILIES, parse_model
from sesame.pretrain.models.family import ModelConfig
from sesame.pretrain.objectives import OBJECTIVES
from sesame.pretrain.objectives.config import LossConfig
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.reporting.config import ReportConfig
from sesame.pretrain.schedule import ScheduleConfig
from sesame.pretrain.stop import StopConfig
from sesame.pretrain.watch.config import WatchConfig


class RunConfig(Section):
    """One complete run of ``sesame pretrain``."""

    output: Derived[Path]
    """Folder for checkpoints, metrics and plots; a run that finds its own checkpoint there resumes from it."""
    steps: Free[int | None] = Field(default=None, gt=0)
    """Optimizer steps; an upper limit where another one is set in [stop]."""
    stop: StopConfig = StopConfig()
    seed: Fixed[int] = Field(default=1, ge=0)
    """Initial weights, order of the data and dropout follow from it."""
    initial_checkpoint: Fixed[Path | None] = None
    """Checkpoint whose weights training starts from; optimizer state and step are new. A head that it lacks gets random
    weights."""
    data: DataConfig
    model: SerializeAsAny[ModelConfig]
    objectives: Fixed[dict[str, float]]
    """Weight of each objective in the total loss, by its row in ``pretrain/objectives/__init__.py``."""
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    parallel: ParallelConfig = ParallelConfig()
    report: ReportConfig = ReportConfig()
    watch: WatchConfig = WatchConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    resume: ResumeConfig = ResumeConfig()

    @field_validator("model", mode="plain", json_schema_input_type=dict)
    @classmethod
    def _family(cls, value: Any) -> ModelConfig:
        try:
            return parse_model(value if isinstance(value, dict) else {}, "[model]")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("objectives")
    @classmethod
    def _objectives(cls, value: dict[str, float]) -> dict[str, float]:
        unknown = [name for name in value if name not in OBJECTIVES]
        if unknown or not value:
            problem = f"'{unknown[0]}' is not an objective" if unknown else "is empty"
            raise ValueError(f"{problem}; the objectives are {', '.join(OBJECTIVES)}")
        negative = [name for name, weight in value.items() if weight < 0]
        if negative or not any(value.values()):
            problem = f"the weight of {negative[0]} is negative" if negative else "all weights are 0"
            raise ValueError(f"{problem}, so nothing would be learned; give weights above 0")
        return value

    @model_validator(mode="after")
    def _objectives_fit_the_family(self) -> "RunConfig":
        provided = FAMILIES[self.model.family].module.provides
        for name in self.objectives:
            if OBJECTIVES[name].needs not in provided:
                fitting = [each for each, objective in OBJECTIVES.items() if objective.needs in provided]
                raise ValueError(
                    f"objectives.{name} does not fit model.family '{self.model.family}'; objectives that do: "
                    f"{', '.join(fitting)}"
                )
        return self

    @model_validator(mode="after")
    def _ends_and_follows_its_schedules(self) -> "RunConfig":
        run_length.check(self)
        return self

    @model_validator(mode="after")
    def _accepts_fixed_settings_only(self) -> "RunConfig":
        check_accepted(self, self.resume.accept)
        return self
