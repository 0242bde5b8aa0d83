"""The section [parallel] of a run."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sesame.configs import Section
from sesame.configs.kinds import Free
from sesame.pretrain.parallel.rules import refusal

Recompute = Literal["none", "attention", "block"]
"""What is computed again in the backward pass."""


def _recompute_word(value: Any) -> Any:
    """Return the word for what was true or false in earlier versions."""
    return {True: "block", False: "none"}[value] if isinstance(value, bool) else value


class ParallelConfig(Section):
    """How a run is distributed; the size of data parallelism is the number of processes divided by ``tensor``."""

    tensor: Free[int] = Field(default=1, gt=0)
    """Processes that split each layer (Megatron-LM, Shoeybi et al. 2019, section 3)."""
    sequence: Free[bool] = False
    """Divide also the tokens between the split layers over the processes of ``tensor``: less activation memory for the
    same communication (Korthikanti et al. 2022, section 4.2)."""
    expert: Free[int] = Field(default=1, gt=0)
    """Data-parallel processes that split the experts of a layer (GShard, Lepikhin et al. 2021, section 2.2)."""
    zero_stage: Free[Literal[0, 1, 2, 3]] = 1
    """What data-parallel processes split: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights
    (ZeRO, Rajbhandari et al. 2020, section 5)."""
    precision: Free[Literal["auto", "fp32", "bf16", "fp16"]] = "auto"
    """Of weights and gradients in forward and backward; the optimizer's copy is always fp32. auto: bf16 if the devices
    of all processes compute it in hardware, else fp32 (``pretrain/precision.py``); a resumed run keeps its
    precision. fp16, for GPUs without bf16, has a dynamic loss scale: a step whose gradients overflow counts, but has no
    update."""
    recompute: Free[Annotated[Recompute, BeforeValidator(_recompute_word)]] = "none"
    """What is computed again in the backward pass instead of being kept. attention: scores, softmax and their product
    with the values (selective recomputation, Korthikanti et al. 2022, section 5), of use where attention is not a fused
    kernel. block: whole Transformer blocks, a fraction of the memory for a third more computing (Chen et al. 2016).
    true and false mean block and none."""
    offload: Free[Literal["none", "optimizer", "parameters"]] = "none"
    """What is kept in host memory. optimizer: fp32 weights, moments and the sums of gradients, and the update is
    computed there (ZeRO-Offload, Ren et al. 2021). parameters: with zero_stage 3 also the weights, which each layer
    fetches when it is used (ZeRO-Infinity, Rajbhandari et al. 2021)."""
    reduction: Free[Literal["fp32", "bf16"]] = "fp32"
    """Number format in which data-parallel processes send gradients to sum them. bf16 sends half of the bytes, and
    rounds gradients and their sum to 8 bits: of use where gradients wait for the network. Sums over the micro-batches
    of a process stay in fp32."""
    compile: Free[bool] = False
    """Compile Transformer blocks with torch.compile, which takes up to a minute at the first step and again, once, when
    the number of tokens of a micro-batch changes. It saves a tenth of a GPU's time, but its calls cost the host more
    than the kernels that it saves: of use for large micro-batches of large models (GPT 1.3B, 8 x 2048 tokens), slower
    where the host is the limit (BERT-large, 32 x 512; ModernBERT-base)."""
    graphs: Free[bool] = False
    """Capture Transformer blocks as CUDA graphs when micro-batches of one shape repeat (``data.micro_tokens``, or rows
    of one length), which saves the host's time: worth it where the host, not the GPU, is the limit."""
    fp8: Free[bool] = False
    """Matrix products of Transformer blocks in fp8, forward and backward (``pretrain/layers/fp8.py``); weights,
    gradients and everything else stay in bf16, which it needs. For GPUs from compute capability 8.9 on and widths of
    some thousands, together with ``compile``; without it rounding costs more than it saves. A CPU computes the same,
    slowly."""
    timeout_minutes: Free[float] = Field(default=10.0, gt=0, le=1440, allow_inf_nan=False)
    """Silence of a process after which the others give up and say which one it is; also the longest time of one
    collective, such as waiting for another process to read its data."""
    threads: Free[int] = Field(default=0, ge=0, le=4096)
    """CPU threads of each process; 0: an equal share of the machine's cores."""

    @model_validator(mode="after")
    def _can_be_combined(self) -> "ParallelConfig":
        if sentence := refusal(self):
            raise ValueError(sentence)
        return self

    def stage_taken(self, precision: str, processes: int, device_type: str) -> int:
        """Return the ZeRO stage that a run takes: 0 instead of 1 for one process on a CPU in fp32, which has nothing to
        divide. DeepSpeed would copy all gradients to flat tensors and the weights back, a tenth of a step."""
        is_alone = processes == 1 and device_type == "cpu" and self.offload == "none"
        return 0 if is_alone and precision == "fp32" and self.zero_stage == 1 else self.zero_stage
