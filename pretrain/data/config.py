"""Settings of the data of a run."""

from typing import NamedTuple

from pydantic import Field, model_validator

from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.configs.kinds import Fixed, Free


class BatchPlan(NamedTuple):
    """How the global batch is divided."""

    micro_batch: int
    """Sequences of a micro-batch."""
    accumulation: int
    """Micro-batches of each data-parallel process in one optimizer step."""


class StageConfig(Section):
    """A part of a run that reads another dataset."""

    at: Free[float] = Field(gt=0, lt=1)
    """Fraction of the run at which it begins."""
    dataset: Free[str]
    """Folder that ``sesame prepare`` wrote, with the tokenizer of ``data.dataset``."""


class DataConfig(Section):
    """Which dataset, and the sizes of batches."""

    dataset: Fixed[str]
    """Folder that ``sesame prepare`` wrote."""
    stages: Free[tuple[StageConfig, ...]] = ()
    """Datasets that are read after it, for example of longer rows (BERT, appendix A.2: 128, then 512 tokens), each from
    its first row on. Validation is on the last one, so that all its losses can be compared."""
    global_batch: Fixed[int] = Field(gt=0, le=2**24)
    """Sequences that one optimizer step averages over."""
    micro_batch: Free[int] = Field(default=0, ge=0)
    """Sequences that one process handles at once, if its memory does not hold its whole share of the global batch;
    accumulation follows from the two and from the layout. 0: the whole share."""
    micro_tokens: Free[int] = Field(default=0, ge=0, le=2**24)
    """Tokens of each micro-batch, in place of ``micro_batch``: whole rows of the global batch are packed into as few
    micro-batches as possible and dummy sequences fill them, so that all have one shape, which torch.compile and CUDA
    graphs need; several times the longest row. 0: micro-batches have ``micro_batch`` rows."""
    causal_every: Free[int] = Field(default=0, ge=0)
    """One step of so many is causal: the model attends to earlier tokens only and predicts every token, with the head
    of the objective ``masked_next`` (GPT-BERT: 16). Needs a corpus with corrupt.drawn = 'each_epoch'. 0: none."""
    adaptive_masking_every: Free[int] = Field(default=0, ge=0)
    """Steps after which the chance of each token of the vocabulary to be masked is set anew, by its mean loss in these
    steps (Edman and Fraser 2025: 100). Needs a corpus with corrupt.drawn = 'each_epoch'. 0: all tokens alike."""
    loader_processes: Free[int] = Field(default=0, ge=0, le=1024)
    """Background processes that make the next batches during a step; 0: they are made between two steps. The batches
    are the same."""
    verify: Free[bool] = True
    """Check every checksum of the dataset before the first step."""

    @model_validator(mode="after")
    def _micro_batches_are_given_once(self) -> "DataConfig":
        if self.micro_batch and self.micro_tokens:
            raise ValueError("micro_batch and micro_tokens both divide the global batch; set one of them")
        return self

    @model_validator(mode="after")
    def _micro_divides_global(self) -> "DataConfig":
        if self.micro_batch and self.global_batch % self.micro_batch:
            raise ValueError(f"global_batch {self.global_batch} does not divide by micro_batch {self.micro_batch}")
        return self

    @model_validator(mode="after")
    def _stages_are_in_order(self) -> "DataConfig":
        begins = [stage.at for stage in self.stages]
        if begins != sorted(set(begins)):
            raise ValueError(f"the stages begin at {begins}; write them in order, each with an 'at' of its own")
        return self

    def batch_plan(self, processes: int) -> BatchPlan:
        """Divide the global batch over data-parallel ``processes``; with ``micro_tokens`` into one average share each.

        Raises:
            ConfigError: it does not divide evenly.
        """
        if self.micro_tokens:
            return BatchPlan(max(1, self.global_batch // processes), 1)
        micro_batch = self.micro_batch or max(1, self.global_batch // processes)
        samples = micro_batch * processes
        if self.global_batch % samples:
            raise ConfigError(
                f"data.global_batch {self.global_batch} does not divide by data.micro_batch {micro_batch} x "
                f"{processes} data-parallel processes = {samples}; change one of the three"
            )
        return BatchPlan(micro_batch, self.global_batch // samples)
