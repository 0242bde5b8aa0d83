"""Settings of an evaluation: the suite, fine-tuning, and what differs for some tasks."""

from typing import Any, Literal

from pydantic import Field, model_validator

import configs
from configs import Section
from configs.errors import ConfigError
from evaluation.tasks import TASKS


class FinetuneConfig(Section):
    """Full-model fine-tuning; BERT's published settings unless said otherwise (Devlin et al. 2019, appendix A.3)."""

    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate of AdamW (the paper tries 2e-5 to 5e-5; small models need 1e-4 to 3e-4)."""
    batch_size: int = Field(default=32, gt=0)
    """Sequences in one step."""
    epochs: int = Field(default=3, gt=0)
    """Times that the training rows are gone through."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0; then it falls linearly to 0."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices."""
    gradient_clipping: float = Field(default=1.0, ge=0)
    """Largest global gradient norm; 0 leaves gradients alone."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an entry of a hidden state, in the backbone and in the head."""
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an attention weight; 0 is faster on a CPU."""
    sequence_length: int = Field(default=128, ge=8)
    """Longest sequence, in tokens; longer ones are cut."""
    pooling: Literal["auto", "first", "last", "mean", "pair"] = "auto"
    """What the head sees: the state of [CLS] (BERT), of the last token (GPT), the mean over tokens, or the means u, v
    of both segments as (u, v, |u-v|, u*v) (Conneau et al. 2017), which is a stronger probe than the standard ones.
    auto: what the family itself names (``Backbone.pooling``)."""
    hidden_layer: bool = True
    """A dense layer with tanh between pooling and classifier (BERT's pooler, RoBERTa's head); over [CLS] it starts from
    the checkpoint's pooler where it has one, else its values are new."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the products; weights and AdamW's moments are always fp32. auto: bf16 where the device computes
    it in hardware, else fp32 (``pretrain/precision.py``)."""
    select: Literal["last", "best"] = "last"
    """Score the weights of the last epoch, or of the epoch with the best dev score (a little too good: the same
    rows choose and score)."""
    limit_train_rows: int | None = Field(default=None, gt=0)
    """Train on so many rows, drawn at random; the report says so."""
    split_dev: bool = False
    """For a task without training file: train on 80 % of the dev rows, score on the rest; the report says so."""


class SuiteConfig(Section):
    """Which tasks, how often, and compared with what."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Rows of the table of tasks. AX has no training data and is predicted along with MNLI."""
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    """One fine-tuning each: the head's values, the order of the rows, dropout, and the weights of the
    random-init baseline."""
    baseline: bool = True
    """Also fine-tune the same model from random weights in the same way: what pretraining is worth."""
    predict_test: bool = True
    """Write submission files for the test sets with the pretrained model of the first seed."""
    required: bool = False
    """A missing task is an error; else it is left out and the report says so."""
    mean_over: tuple[str, ...] = ()
    """Tasks that the mean is taken over; empty: all that ran."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: the GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves the choice to torch."""


class EvaluationConfig(Section):
    """One complete evaluation."""

    suite: SuiteConfig
    """What is run."""
    finetune: FinetuneConfig = FinetuneConfig()
    """Settings of every task."""
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By task: what differs from [finetune]."""

    @model_validator(mode="after")
    def _names_are_known(self) -> "EvaluationConfig":
        for name in (*self.suite.tasks, *self.suite.mean_over, *self.tasks):
            if name not in TASKS:
                raise ValueError(f"unknown task '{name}'; known: {', '.join(TASKS)} (AX is predicted along with MNLI)")
        for key, values in (("tasks", self.suite.tasks), ("seeds", self.suite.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"suite.{key} names something twice: {', '.join(map(str, values))}")
        try:
            for name in self.tasks:
                self.settings(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def settings(self, task: str) -> FinetuneConfig:
        """[finetune] with [tasks.NAME] on top."""
        values = {**configs.dump(self.finetune), **self.tasks.get(task, {})}
        return configs.parse(values, FinetuneConfig, f"[tasks.{task}]")

    def with_precision(self, available: str) -> "EvaluationConfig":
        """The same with ``available`` wherever precision is "auto": results in one are not those in the other."""
        values = configs.dump(self)
        for section in (values["finetune"], *values["tasks"].values()):
            if section.get("precision") == "auto":
                section["precision"] = available
        return configs.parse(values, EvaluationConfig, "the suite")
