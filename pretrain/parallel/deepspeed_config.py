"""The typed configuration of a run -> DeepSpeed's dict, which the rest of the project never sees."""

from typing import Any

from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel import loss_scale
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.mesh import Mesh

OFFLOADED = {
    "none": (),
    "optimizer": ("offload_optimizer",),
    "parameters": ("offload_optimizer", "offload_param"),
}
"""Word of ``parallel.offload`` -> sections of DeepSpeed's dict."""


def deepspeed_config(
    optimizer: OptimizerConfig, parallel: ParallelConfig, mesh: Mesh, batch: tuple[int, int]
) -> dict[str, Any]:
    """Return DeepSpeed's dict. ``gradient_clipping`` is always set, for its default changes between versions."""
    micro_batch, accumulation = batch
    return {
        "train_batch_size": micro_batch * accumulation * mesh.data,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 0.0 if parallel.zero_stage == 0 else optimizer.gradient_clipping,
        "fp16": loss_scale.section(parallel.precision == "fp16"),
        # Where layers are split, a gradient is added to the fp32 sum and released at once: models that are split have
        # no memory for gradients in both formats.
        "bf16": {
            "enabled": parallel.precision == "bf16",
            "immediate_grad_update": mesh.tensor > 1 or mesh.expert > 1,
        },
        "zero_optimization": {
            "stage": parallel.zero_stage,
            "overlap_comm": mesh.device.type == "cuda" and parallel.zero_stage > 1,
            # A parameter that stays whole would have a second copy to keep in step with its parts.
            "stage3_param_persistence_threshold": 0,
            **{
                part: {"device": "cpu", "pin_memory": mesh.device.type == "cuda"}
                for part in OFFLOADED[parallel.offload]
            },
        },
        # torch's fused AdamW updates on the host as well, and needs no compiler there as DeepSpeed's own does.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "data_types": {"grad_accum_dtype": "fp32"},
        # Sums over micro-batches are in fp32; by default DeepSpeed would round them to bf16 before it sums over
        # processes.
        "communication_data_type": parallel.reduction,
        "steps_per_print": None,
        # DeepSpeed's own would wait for the device twice in each micro-batch.
        "timers": {"throughput": {"enabled": False}},
    }
