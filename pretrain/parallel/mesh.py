"""The processes of a run and the groups that they form: tensor parallel x data parallel."""

import atexit
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from sesame.configs.errors import ConfigError
from sesame.pretrain.allocator import keep_freed_memory
from sesame.pretrain.parallel import deepspeed_api
from sesame.pretrain.parallel.collectives import TimedCollectives
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.deepspeed_api import deepspeed, groups
from sesame.pretrain.parallel.sequence import TokenGroup
from sesame.pretrain.parallel.watchdog import Watchdog
from sesame.pretrain.step_timer import StepTimer

IS_RENAMED = hasattr(torch.distributed, "all_gather_single")
ALL_GATHER = "all_gather_single" if IS_RENAMED else "all_gather_into_tensor"
REDUCE_SCATTER = "reduce_scatter_single" if IS_RENAMED else "reduce_scatter_tensor"
"""Renamed in torch 2.13; looked up when they are called, because ``TimedCollectives`` replaces them."""


class Mesh:
    """This process's ranks, groups and device; by the methods with DeepSpeed's names also its ``mpu`` object."""

    def __init__(self, config: ParallelConfig):
        timeout = timedelta(minutes=config.timeout_minutes)
        _start_process_group(timeout)
        self._existing_groups = frozenset(_process_groups())
        self.rank = torch.distributed.get_rank()
        self.world = torch.distributed.get_world_size()
        self.tensor = config.tensor
        if self.world % config.tensor:
            raise ConfigError(
                f"parallel.tensor {config.tensor} does not divide the {self.world} processes that were started; "
                "start a multiple of it or change it"
            )
        self.data = self.world // config.tensor
        self.expert = config.expert
        if self.data % config.expert:
            raise ConfigError(
                f"parallel.expert {config.expert} does not divide the {self.data} data-parallel processes; start a "
                "multiple of it or change it"
            )
        self.device = _device()
        _set_threads(config.threads)
        keep_freed_memory(self.device)
        self._create_tensor_groups()
        self._create_expert_groups()
        # Signals are agreed on beside the computation, which NCCL's collectives would wait for.
        self.host_group: Any = torch.distributed.new_group(backend="gloo") if self.device.type == "cuda" else None
        # The threads that write checkpoints agree beside all of that.
        self.saving_group: Any = torch.distributed.new_group(backend="gloo") if self.world > 1 else None
        self.watchdog = Watchdog(self.rank, self.world, timeout.total_seconds())
        self.timer = StepTimer(self.device)
        # One process communicates with nobody, although DeepSpeed calls the same functions.
        self._collectives = TimedCollectives(self.timer, knows_megatron=self.tensor > 1) if self.world > 1 else None

    def _create_tensor_groups(self) -> None:
        """Create ``tensor_group``, the processes that divide one model, and ``data_group``, those with equal parts."""
        if self.tensor > 1:
            from megatron.core import parallel_state

            # The additional gloo groups are used by megatron's own checkpoints only.
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=self.tensor, create_gloo_process_groups=False
            )
            self.tensor_group: Any = parallel_state.get_tensor_model_parallel_group()
            self.data_group: Any = parallel_state.get_data_parallel_group()
        else:
            self.tensor_group = torch.distributed.new_group([self.rank], use_local_synchronization=True)
            self.data_group = torch.distributed.group.WORLD
        self.tensor_rank = torch.distributed.get_rank(self.tensor_group)
        self.data_rank = torch.distributed.get_rank(self.data_group)

    def _create_expert_groups(self) -> None:
        """Create ``expert_group``, neighbouring data-parallel processes with different experts, and
        ``expert_data_group``, the processes with the same experts."""
        self.expert_group_name = f"ep_size_{self.expert}"
        self.expert_rank = self.data_rank % self.expert
        self.expert_group: Any = None
        self.expert_host_group: Any = None
        self.expert_data_group: Any = self.data_group
        if self.expert == 1:
            return
        if self.tensor > 1:
            groups.mpu = self
            groups._create_expert_data_and_model_parallel(self.expert, mpu=self)
        else:
            groups._create_expert_and_data_parallel(self.expert)
        self.expert_group = groups._get_expert_parallel_group(self.expert_group_name)
        self.expert_data_group = groups._get_expert_data_parallel_group(self.expert_group_name)
        self.expert_host_group = self.expert_group
        if self.device.type == "cuda":
            ranks = torch.distributed.get_process_group_ranks(self.expert_group)
            self.expert_host_group = torch.distributed.new_group(ranks, backend="gloo", use_local_synchronization=True)

    @property
    def is_rank_zero(self) -> bool:
        """True on the one process that prints and writes files that exist once."""
        return self.rank == 0

    def barrier(self) -> None:
        torch.distributed.barrier()

    def sum_over_data(self, tensor: torch.Tensor) -> torch.Tensor:
        torch.distributed.all_reduce(tensor, group=self.data_group)
        return tensor

    def sum_over_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        torch.distributed.all_reduce(tensor, group=self.tensor_group)
        return tensor

    def sum_over_all(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over all processes."""
        return self.sum_over_tensor(self.sum_over_data(tensor))

    @property
    def token_group(self) -> TokenGroup:
        """The tensor-parallel processes, which divide the tokens under sequence parallelism."""

        def all_gather(part: torch.Tensor) -> torch.Tensor:
            whole = part.new_empty(self.tensor * len(part), *part.shape[1:])
            getattr(torch.distributed, ALL_GATHER)(whole, part, group=self.tensor_group)
            return whole

        def reduce_scatter(whole: torch.Tensor) -> torch.Tensor:
            part = whole.new_empty(len(whole) // self.tensor, *whole.shape[1:])
            getattr(torch.distributed, REDUCE_SCATTER)(part, whole, group=self.tensor_group)
            return part

        def all_reduce(gradient: torch.Tensor) -> torch.Tensor:
            return self.sum_over_tensor(gradient.clone())

        return TokenGroup(self.tensor_rank, self.tensor, all_gather, reduce_scatter, all_reduce)

    def sum_over_experts(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the processes with different experts."""
        if self.expert > 1:
            torch.distributed.all_reduce(tensor, group=self.expert_group)
        return tensor

    def largest_of_experts(self, value: int) -> int:
        """Return the largest ``value`` of the processes with different experts; a collective of their hosts, which do
        not wait for their devices."""
        shared = torch.tensor(value)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, group=self.expert_host_group)
        return int(shared)

    def from_rank_zero(self, value: float) -> float:
        """Return rank 0's ``value``; a collective."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def ask_any(self, values: Sequence[bool]) -> Callable[[], list[bool]]:
        """Start to ask all processes; the returned function waits for which ``values`` are true in any of them."""
        if self.world == 1:
            return lambda: list(values)
        shared = torch.tensor(values, dtype=torch.int32)
        work = torch.distributed.all_reduce(
            shared, torch.distributed.ReduceOp.MAX, group=self.host_group, async_op=True
        )

        def answer() -> list[bool]:
            if work is not None:
                work.wait()
            return [bool(value) for value in shared.tolist()]

        return answer

    def gather_objects(self, value: Any) -> list[Any]:
        """Return every process's ``value``, in order of rank; a collective."""
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def gather_for_saving(self, value: Any) -> list[Any]:
        """``gather_objects`` for one thread of each process that does nothing else."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value, group=self.saving_group)
        return values

    def close(self) -> None:
        """Destroy every process group of this layout but the default one, which another run in this process can use.

        A gloo group has two threads, which end when the last reference to it is gone. Call ``barrier`` first, unless
        the run has failed: other processes must have finished their collectives.
        """
        self.watchdog.close()
        if self._collectives is not None:
            self._collectives.close()
        self.tensor_group = self.expert_group = self.data_group = self.expert_data_group = None
        self.host_group = self.expert_host_group = self.saving_group = None
        groups.mpu = None
        if self.tensor > 1:
            from megatron.core import parallel_state

            parallel_state.destroy_model_parallel()
        for group in _process_groups():
            if group not in self._existing_groups:
                # Not torch's function: this one also clears DeepSpeed's globals.
                deepspeed.comm.destroy_process_group(group)
        gc.collect()

    def get_model_parallel_rank(self) -> int:
        return self.tensor_rank

    def get_model_parallel_world_size(self) -> int:
        return self.tensor

    def get_model_parallel_group(self) -> Any:
        return self.tensor_group

    def get_data_parallel_rank(self) -> int:
        return self.data_rank

    def get_data_parallel_world_size(self) -> int:
        return self.data

    def get_data_parallel_group(self) -> Any:
        return self.data_group

    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size
    get_tensor_model_parallel_group = get_model_parallel_group


def _process_groups() -> list[Any]:
    """Return the process groups that this process is a member of, the newest first."""
    return list(reversed(torch.distributed.distributed_c10d._world.pg_map))


def _start_process_group(timeout: timedelta) -> None:
    single = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    if "RANK" not in os.environ:
        os.environ.update(single)
    _check_variables(os.environ)
    deepspeed_api.configure_process()
    _check_device(int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(dist_backend=backend, verbose=False, timeout=timeout)
        # Only at exit: DeepSpeed keeps groups in globals, so a process can be initialized once only.
        atexit.register(torch.distributed.destroy_process_group)


def _check_device(number: int) -> None:
    """Raise ConfigError if this machine has GPUs, but none for its trainer of this number."""
    if torch.cuda.is_available() and number >= (count := torch.cuda.device_count()):
        raise ConfigError(
            f"this is trainer {number + 1} of its machine, which has {count} GPUs; start at most {count} with "
            "--processes, or --gpus-per-node of `sesame submit`"
        )


def _check_variables(variables: Mapping[str, str]) -> None:
    """Check what a launcher tells its processes.

    Raises:
        ConfigError: a variable is missing or has no meaning.
    """
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR"):
        value = variables.get(name, "")
        if not value or (name != "MASTER_ADDR" and not (value.isascii() and value.isdecimal())):
            found = f"is {value!r}" if value else "is not set"
            raise ConfigError(
                f"RANK is set, so a launcher has started this process, but {name} {found}; start with --processes, "
                "torchrun or deepspeed, which set it, or unset RANK"
            )
    if int(variables["RANK"]) >= int(variables["WORLD_SIZE"]):
        raise ConfigError(
            f"RANK is {variables['RANK']}, but WORLD_SIZE is {variables['WORLD_SIZE']} and ranks are numbered from 0; "
            "correct the two, or unset RANK"
        )


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _set_threads(threads: int) -> None:
    """Use ``threads`` CPU threads; 0 for an equal share of the machine's cores."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // local))
