"""How one task is learned. A suite gives one setting for all tasks and what differs for some of them."""

from typing import Literal

from pydantic import Field

from configs import Section


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
