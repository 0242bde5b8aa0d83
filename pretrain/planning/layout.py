"""How a run is divided, and the weights of one process."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from sesame.pretrain.optimizers import OptimizerKind
from sesame.pretrain.optimizers.matrices import layout_of
from sesame.pretrain.parallel.flat_update import SMALL_ENTRIES
from sesame.pretrain.planning.split import Division, is_expert_part


class Layout(NamedTuple):
    """How a run is divided."""

    tensor: int
    data: int
    expert: int
    zero_stage: int
    recompute: str
    precision: str
    micro_batch: int
    """Sequences of a process at once."""
    accumulation: int
    """Micro-batches of a process in a step."""
    sequence: bool = False
    offload: str = "none"
    reduction: str = "fp32"
    fp8: bool = False

    @property
    def division(self) -> Division:
        return Division(self.tensor, self.expert, self.precision, self.recompute, self.sequence, self.fp8)

    @property
    def processes(self) -> int:
        return self.tensor * self.data

    @property
    def shares(self) -> tuple[float, float]:
        """Parts of (shared weights, experts) of a process that it updates."""
        return (1 / self.data, self.expert / self.data) if self.zero_stage else (1.0, 1.0)


class Matrices(NamedTuple):
    """Weights that Muon orthogonalizes."""

    entries: int
    computed: float
    """Entries of all tensors while those of one shape are computed, the most: of [r, c] with r <= c a copy, two of an
    iteration, and two [r, r]."""

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> "Matrices":
        """Count those among ``parameters``, which are given by name."""
        by_shape = Counter[tuple[int, ...]]()
        for name, parameter in parameters.items():
            if (layout := layout_of(name)) is not None:
                by_shape[tuple(layout.view(parameter).shape[1:])] += parameter.numel()
        computed = (size * (3 + 2 * min(shape) / max(shape)) for shape, size in by_shape.items())
        return cls(by_shape.total(), max(computed, default=0.0))


class Counts(NamedTuple):
    """Weights of one process and entries of its optimizer's state, before ZeRO divides them."""

    shared: int
    """Of which every data-parallel process has the same."""
    experts: int
    """Experts of which other data-parallel processes have others."""
    largest: int
    """The largest weight."""
    small: int
    """In parameters whose gradients are summed together."""
    shared_moments: int
    """Entries of the optimizer's moments, and of the moving average of the weights, of shared weights."""
    expert_moments: int
    """The same of experts."""
    shared_matrices: Matrices
    """Of shared weights, those that the optimizer orthogonalizes."""
    expert_matrices: Matrices
    """The same of experts."""

    @classmethod
    def of(cls, module: nn.Module, optimizer: OptimizerKind) -> "Counts":
        parts = [
            (name, parameter.numel(), len(optimizer.moments_of(name)), is_expert_part(parameter))
            for name, parameter in module.named_parameters()
        ]
        shared, experts = ([part for part in parts if part[-1] == is_expert] for is_expert in (False, True))
        named = dict(module.named_parameters()) if optimizer.matrix_state is not None else {}
        return cls(
            shared=sum(size for _, size, *_ in shared),
            experts=sum(size for _, size, *_ in experts),
            largest=max(size for _, size, *_ in parts),
            small=sum(size for _, size, *_ in parts if size <= SMALL_ENTRIES),
            shared_moments=sum(size * moments for _, size, moments, _ in shared),
            expert_moments=sum(size * moments for _, size, moments, _ in experts),
            shared_matrices=Matrices.of({name: named[name] for name, *_ in shared if name in named}),
            expert_matrices=Matrices.of({name: named[name] for name, *_ in experts if name in named}),
        )

    @property
    def all(self) -> int:
        return self.shared + self.experts

    def owned(self, layout: Layout) -> float:
        """Weights that this process's optimizer updates."""
        shared, experts = layout.shares
        return self.shared * shared + self.experts * experts

    def owned_moments(self, layout: Layout) -> float:
        """Entries of the optimizer's state that this process keeps."""
        shared, experts = layout.shares
        return self.shared_moments * shared + self.expert_moments * experts
