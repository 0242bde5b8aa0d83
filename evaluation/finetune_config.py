"""Settings of fine-tuning."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sesame.configs import Section


class FinetuneConfig(Section):
    """Fine-tuning of all weights; the defaults are BERT's published settings (Devlin et al. 2019, appendix A.3)."""

    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate of AdamW (the paper tries 2e-5 to 5e-5; small models need 1e-4 to 3e-4)."""
    batch_size: int = Field(default=32, gt=0)
    """Sequences in one step."""
    epochs: int = Field(default=3, gt=0)
    """Passes over the training rows."""
    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps instead of epochs."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """The same in steps, instead of the share."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the learning rate after the warm-up, to 0 at the end (a key of ``pretrain/schedule.py``)."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor of the learning rate from each layer to the one below (ELECTRA: 0.8, for a large model 0.9)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the moments."""
    epsilon: float = Field(default=1e-6, gt=0)
    """AdamW's, added to the square root of the second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices."""
    weight_decay_times: Literal["learning_rate", "schedule"] = "learning_rate"
    """What a step multiplies the weight decay by: its learning rate (AdamW), or the share of the peak learning rate
    (DecoupledAdamW of MosaicML's composer)."""
    decay_vectors: bool = False
    """Also decay biases and the weights of norms (fairseq, composer)."""
    gradient_clipping: float = Field(default=1.0, ge=0)
    """Largest global gradient norm; 0: no clipping."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an entry of a hidden state, in the backbone and in the head."""
    head_dropout: float | None = Field(default=None, ge=0, lt=1)
    """The same in the head, if it differs."""
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an attention weight; 0 is faster on a CPU."""
    sequence_length: int = Field(default=128, ge=8)
    """Longest sequence, in tokens; longer ones are cut."""
    pooling: Literal["auto", "first", "last", "mean", "pair"] = "auto"
    """Input of the head: the state of [CLS] (BERT), of the last token (GPT), the mean over tokens, or the means u, v
    of both segments as (u, v, |u-v|, u*v) (Conneau et al. 2017), a stronger probe than the other poolings.
    auto: the family's own (``Backbone.pooling``)."""
    hidden_layer: bool = True
    """A dense layer with tanh between pooling and classifier (BERT's pooler, RoBERTa's head). With pooling "first" it
    is initialized from the checkpoint's pooler if there is one, else randomly."""
    pseudo_likelihood: Literal["exact", "one_pass", "causal"] = "exact"
    """How a masked model scores a sentence of a minimal pair (BLiMP), which is not fine-tuned. exact: with one token
    masked at a time (Salazar et al. 2020); one_pass: all tokens at once and none masked, so that each also sees itself:
    a pass for a sentence instead of one for each token; causal: each token from those before it, for a model with the
    objective ``masked_next`` (GPT-BERT)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the products; weights and AdamW's moments are always fp32. auto: bf16 where the device computes
    it in hardware, else fp32 (``pretrain/precision.py``)."""
    select: Literal["last", "best"] = "last"
    """Score the weights of the last epoch, or of the epoch with the best dev score (optimistic: selected and scored on
    the same rows)."""
    form: Literal["head", "text"] = "head"
    """head: a new head answers. text: text to text for T5 and Switch; the decoder answers in words, in the forms of
    T5's paper (``tasks/text_forms.py``), and learns by its pretraining's loss."""
    decoding: Literal["greedy", "likelihood"] = "greedy"
    """Of form "text". greedy: the likeliest token after token, as in T5's paper; an answer that is none of the task's
    words is wrong, and counted in the report. likelihood: the likeliest of the task's words, which is never none."""
    window_stride: int = Field(default=128, gt=0)
    """Of a task whose answer is a part of a text: the text is read in windows that begin so many tokens apart."""
    longest_answer: int = Field(default=50, gt=0)
    """Of such a task: tokens of an answer, at most."""
    early_stopping: int = Field(default=0, ge=0)
    """With ``select = "best"``: end after so many epochs without a better dev score; 0: never. The learning rate falls
    as planned for all ``epochs``."""
    recompute: bool = False
    """Compute each block again in the backward pass instead of keeping what it computes (Chen et al. 2016): less memory
    for a fifth to a third more time."""
    limit_train_rows: int | None = Field(default=None, gt=0)
    """Train on this many random rows; noted in the report."""
    limit_dev_rows: int | None = Field(default=None, gt=0)
    """Score on this many random dev rows; in the title of the task, because such a score is not an official one."""
    split_dev: bool = False
    """For a task without a training file: train on 80 % of the dev rows, score on the rest; noted in the report."""

    @field_validator("betas")
    @classmethod
    def _betas_are_rates(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas {list(betas)} are not in [0, 1)")
        return betas

    @model_validator(mode="after")
    def _early_stopping_has_scores(self) -> "FinetuneConfig":
        if self.early_stopping and self.select != "best":
            raise ValueError('early_stopping compares the dev scores of epochs; set select = "best" as well')
        return self
