"""The section [parallel] of a run."""

from typing import Literal

from pydantic import Field, model_validator

from sesame.configs import Section
from sesame.configs.kinds import Free


class ParallelConfig(Section):
    """How a run is distributed; the size of data parallelism is the number of processes divided by ``tensor``."""

    tensor: Free[int] = Field(default=1, gt=0)
    """Processes that split each layer (Megatron-LM, Shoeybi et al. 2019, section 3)."""
    expert: Free[int] = Field(default=1, gt=0)
    """Data-parallel processes that split the experts of a layer (GShard, Lepikhin et al. 2021, section 2.2)."""
    zero_stage: Free[Literal[0, 1, 2, 3]] = 1
    """What data-parallel processes split: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights
    (ZeRO, Rajbhandari et al. 2020, section 5)."""
    precision: Free[Literal["auto", "fp32", "bf16"]] = "auto"
    """Of weights and gradients in forward and backward; the optimizer's copy is always fp32. auto: bf16 if the devices
    of all processes compute it in hardware, else fp32 (``pretrain/precision.py``); a resumed run keeps its
    precision."""
    recompute: Free[bool] = False
    """Recompute Transformer blocks in the backward pass instead of keeping their activations: a fraction of the memory
    for a third more computing (Chen et al. 2016; Megatron-LM's larger models)."""
    compile: Free[bool] = False
    """Compile Transformer blocks with torch.compile, which takes up to a minute at the first step and again, once, when
    the number of tokens of a micro-batch changes. It saves a tenth of a GPU's time, but its calls cost the host more
    than the kernels that it saves: of use for large micro-batches of large models (GPT 1.3B, 8 x 2048 tokens), slower
    where the host is the limit (BERT-large, 32 x 512; ModernBERT-base)."""
    graphs: Free[bool] = False
    """Record Transformer blocks as CUDA graphs when micro-batches of one shape repeat (``data.micro_tokens``, or rows
    of one length), which saves the host's time: worth it where the host, not the GPU, is the limit."""
    timeout_minutes: Free[float] = Field(default=10.0, gt=0, le=1440, allow_inf_nan=False)
    """Silence of a process after which the others give up and say which one it is; also the longest time of one
    collective, such as waiting for another process to read its data."""
    threads: Free[int] = Field(default=0, ge=0, le=4096)
    """CPU threads of each process; 0: an equal share of the machine's cores."""

    @model_validator(mode="after")
    def _stage_supports_experts(self) -> "ParallelConfig":
        if self.zero_stage == 3 and self.expert > 1:
            raise ValueError(
                "zero_stage 3 with expert > 1 is refused, because it partitions weights over all data-parallel "
                "processes, which have different experts; use zero_stage 2, or expert 1"
            )
        return self

    @model_validator(mode="after")
    def _layout_can_be_compiled(self) -> "ParallelConfig":
        if self.compile and (self.tensor > 1 or self.zero_stage == 3):
            raise ValueError(
                "compile is refused with tensor > 1 and with zero_stage 3, whose layers communicate within a block; "
                "use zero_stage 0 to 2 with tensor 1, or compile = false"
            )
        return self

    @model_validator(mode="after")
    def _graphs_keep_activations(self) -> "ParallelConfig":
        if self.graphs and self.recompute:
            raise ValueError("graphs is refused with recompute, whose blocks do not keep what a graph works on")
        return self

    @model_validator(mode="after")
    def _stage_supports_precision(self) -> "ParallelConfig":
        if self.zero_stage == 0 and self.precision == "bf16":
            raise ValueError(
                "zero_stage 0 with bf16 is refused, because DeepSpeed computes a wrong gradient norm for it under "
                "tensor parallelism; use zero_stage 1, which costs nothing on one process, or precision 'auto'"
            )
        return self
