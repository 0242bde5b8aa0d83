"""Every family, objective, optimizer and task head on CUDA without a device: devices match and the host never waits.

``make check-cuda``; needs a CUDA build of torch. ``python -m tests.pretrain.launch_counts`` prints the launches.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
)

from sesame import configs
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.heads import POOLINGS, Head
from sesame.pretrain.data.packing import pack
from sesame.pretrain.data.token_budget import without_weight
from sesame.pretrain.initialization import materialise
from sesame.pretrain.layers.fp8 import fp8_linear
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.metrics import MetricSums, StepMetrics
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary, on_meta_device
from sesame.pretrain.optimizers import OPTIMIZERS
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.muon import ITERATIONS, Muon
from sesame.pretrain.parallel import experts, fp8, placement
from sesame.pretrain.parallel.flat_update import FlatUpdate
from sesame.pretrain.parallel.fragments import Fragment, ZeroOptimizer
from sesame.pretrain.parallel.matrix_exchange import MatrixExchange
from sesame.pretrain.parallel.matrix_plan import Holding
from sesame.pretrain.parallel.tensor import shard
from sesame.pretrain.watch import losses
from tests.pretrain.fake_cuda import HostWaits, backward, fake_cuda, place, random_batch
from tests.pretrain.family_runs import FAMILY_RUNS
from tests.pretrain.whole_matrices import matrices_of_one_process

pytestmark = [
    pytest.mark.cuda_trace,
    pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch"),
]

CUDA = torch.device("cuda")
UNEVEN, EQUAL = [9, 16, 17, 17, 17, 17, 40, 48], [48] * 8
CHANGES: dict[str, dict[str, Any]] = {"": {}, "sequence capacity": {"sequence_capacity": 4}}


def learner_of(name: str, dropout: float, changes: dict[str, Any]) -> Learner:
    run = FAMILY_RUNS[name]
    values = {**run.model, "dropout": dropout, **changes}
    if "attention_dropout" in values:
        values["attention_dropout"] = dropout
    config = configs.parse(values, FAMILIES[values["family"]].config, "the test's model")
    return build(config, run.objectives, Vocabulary(300))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    ("name", "changes"), [*((name, "") for name in FAMILY_RUNS), ("switch", "sequence capacity")], ids=str
)
def test_a_pass_does_not_wait(name: str, changes: str, dropout: float, dtype: torch.dtype) -> None:
    learner = learner_of(name, dropout, CHANGES[changes])
    for lengths in (UNEVEN, EQUAL) if (name, dropout) == ("bert", 0.0) else (UNEVEN,):
        batch = random_batch(learner.reads, lengths, 300)
        with fake_cuda() as launches:
            place(learner, dtype)
            total, losses = learner(batch.to(CUDA))
            gradients = backward(total)
        assert all(loss.device.type == "cuda" for loss in losses.values())
        without = [name for name, parameter in learner.named_parameters() if id(parameter) not in gradients]
        assert not without, f"no gradient for {', '.join(without)}"
        assert launches.total
        with fake_cuda(), torch.no_grad():
            learner.eval()
            learner(batch.to(CUDA))
        learner.train()


@pytest.mark.parametrize("name", [name for name, run in FAMILY_RUNS.items() if run.model["family"] != "elmo"])
def test_products_in_fp8_do_not_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(fp8, "fp8_linear", lambda *operands: calls.append(operands) or fp8_linear(*operands))
    learner = learner_of(name, 0.1, {})
    assert fp8.use_fp8(learner)
    # The number of tokens is no multiple of 16.
    batch = random_batch(learner.reads, [*UNEVEN, 5], 300)
    with fake_cuda() as launches:
        place(learner, torch.bfloat16)
        total, _ = learner(batch.to(CUDA))
        gradients = backward(total)
    assert all(id(parameter) in gradients for parameter in learner.parameters())
    # One in the forward pass, and in the backward pass those of both gradients.
    assert launches.counts["_scaled_mm"] == 3 * len(calls) > 0


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_launches_do_not_depend_on_the_lengths(name: str) -> None:
    """A loop over groups of similar lengths has a call of attention for each."""
    learner, counts = learner_of(name, 0.1, {}), []
    for lengths in (UNEVEN, [5, 9, 20, 48]):
        batch = random_batch(learner.reads, lengths, 300)
        with fake_cuda() as launches:
            place(learner, torch.bfloat16)
            learner(batch.to(CUDA))
        counts.append(launches.total)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", FAMILY_RUNS)
def test_dummies_of_a_token_budget_do_not_wait(name: str) -> None:
    learner = learner_of(name, 0.1, {})
    batch = without_weight(random_batch(learner.reads, UNEVEN, 300))
    with fake_cuda():
        place(learner, torch.bfloat16)
        total, _ = learner(batch.to(CUDA))
        assert backward(total)


def test_the_numbers_of_a_step_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of micro-batches, their sums for a report, and the numbers that are watched."""
    # Its copy to pinned memory is not waited for, which fake tensors cannot tell.
    monkeypatch.setattr(losses, "DeviceNumber", lambda value: value)
    mesh: Any = SimpleNamespace(device=CUDA, data=2, data_rank=1, sum_over_data=lambda sums: sums)
    weights = {"masked_lm": 1.0, "sentence_pairs": 0.5}
    watched, sums = losses.StepLosses(mesh), MetricSums()
    with fake_cuda():
        for _ in range(2):
            step = {name: torch.empty((), device="cuda") for name in weights}
            watched.add(step, weights)
            watched.add(step, weights)
            sums.add(StepMetrics(step, 0.0, 1.0, 1.0, 0.1))
            numbers: Any = watched.collect(2)
            assert numbers.shape == (2, 2) and numbers.device.type == "cuda"
    assert sums.steps == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ["bert", "elmo", "gpt", "t5"])
def test_a_task_head_does_not_wait(name: str, pooling: Any, dtype: torch.dtype) -> None:
    backbone = learner_of(name, 0.1, {}).backbone
    with on_meta_device():
        head = Head(backbone, 3, FinetuneConfig(pooling=pooling))
    sequences = [np.full(length, 7) for length in UNEVEN]
    batch = pack(sequences, [length // 2 for length in UNEVEN], first_lengths=np.array(UNEVEN) // 2)
    labels = torch.arange(len(UNEVEN)) % 3
    with fake_cuda():
        place(backbone, dtype)
        place(head, torch.float32)
        placed = batch.to(CUDA)
        loss = F.cross_entropy(head(backbone(placed), placed), labels.pin_memory().to(CUDA, non_blocking=True))
        assert backward(loss)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_does_not_wait(name: Any) -> None:
    kind = OPTIMIZERS[name]
    with on_meta_device():
        attention = nn.ModuleDict({"query": nn.Linear(12, 8)})
        module = nn.ModuleDict({"attention": attention, "norm": nn.LayerNorm(8)})
    with fake_cuda() as launches:
        place(module, torch.float32)
        optimizer = kind.create(kind.groups(module, 0.01), OptimizerConfig(name=name, learning_rate=1e-3))
        if isinstance(optimizer, Muon):
            optimizer.whole_matrices = matrices_of_one_process(dict(module.named_parameters()), CUDA, torch.bfloat16)
        for _ in range(2):
            for parameter in module.parameters():
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()
    assert name != "muon" or launches.counts["baddbmm"] == 2 * 2 * ITERATIONS


def test_the_flat_update_does_not_wait() -> None:
    with on_meta_device():
        module = nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 2**16))
    with fake_cuda():
        place(module, torch.bfloat16)
        parameters = list(module.parameters())
        flat = torch.empty(sum(parameter.numel() for parameter in parameters), device="cuda")
        sums = list(flat.split([parameter.numel() for parameter in parameters]))
        wrapper = SimpleNamespace(
            bf16_groups=[parameters],
            fp32_groups_gradients=[sums],
            fp32_groups_actual_gradients_flat=[flat],
            fp32_groups_gradients_flat=[flat],
            fp32_groups_flat_partition=[nn.Parameter(torch.empty_like(flat))],
            fp32_groups_gradient_flat_partition=[flat],
            optimizer=SimpleNamespace(step=lambda: None),
            _lazy_init_hp_params_optimizer_state=lambda: None,
            update_lp_params=lambda: None,
        )
        update = FlatUpdate(wrapper, 1.0)
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter)
            update.add_gradients()
        update.step()
        assert update.norm is not None and update.norm.device.type == "cuda"


def test_expert_parallelism_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes agree on the capacity of an expert on their hosts."""
    monkeypatch.setattr(experts.AllToAll, "apply", lambda group, parts: parts.clone())
    learner = learner_of("switch", 0.1, {})
    asked: list[int] = []
    mesh: Any = SimpleNamespace(
        tensor=1,
        expert=2,
        expert_group=None,
        expert_group_name="ep_size_2",
        largest_of_experts=lambda capacity: asked.append(capacity) or capacity + 3,
    )
    shard(learner, mesh)
    batch = random_batch(learner.reads, UNEVEN, 300)
    with fake_cuda():
        place(learner, torch.bfloat16)
        total, _ = learner(batch.to(CUDA))
        assert backward(total)
    assert len(asked) == sum(isinstance(part, experts.AllToAllDispatcher) for part in learner.modules()) > 1


def test_what_is_offloaded_is_sent_and_computed_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL has no collectives of tensors on the host."""
    devices: list[str] = []
    monkeypatch.setattr(torch.distributed, "all_gather", lambda _, part, **__: devices.append(part.device.type))
    monkeypatch.setattr(torch.distributed, "all_to_all_single", lambda _, sent, *__: devices.append(sent.device.type))

    def gathered(own: list[Holding]) -> list[list[Holding]]:
        return [own, [each._replace(start=each.length) for each in own]]

    mesh: Any = SimpleNamespace(
        device=CUDA, tensor=2, world=2, rank=0, tensor_rank=0, tensor_group=None, gather_objects=gathered
    )
    name = "backbone.blocks.0.attention.query.weight"
    with fake_cuda(raises=False):
        parameter: Any = nn.Parameter(torch.empty(8, 6))
        flat = torch.empty(24)
        wrapper = SimpleNamespace(single_partition_of_fp32_groups=[flat], bit16_groups=[[parameter]])
        zero, fragments = ZeroOptimizer(wrapper, False, 0), {name: Fragment(flat, 0, 0, 24)}
        exchange = MatrixExchange({name: parameter}, fragments, zero, 1, mesh, torch.bfloat16)

        def computed(matrices: torch.Tensor) -> torch.Tensor:
            devices.append(matrices.device.type)
            return matrices

        exchange.apply(computed, {id(flat): torch.empty(24)})
        parameter.tensor_model_parallel, parameter.partition_dim = True, 1
        placement.whole_rows(parameter, torch.empty(8, 6), mesh)
    assert devices == ["cuda"] * 4


FAKE_ERRORS = (DataDependentOutputException, DynamicOutputShapeException, FakeTensorDeviceMismatchError)
WAITS: dict[str, Any] = {
    "item": lambda states: states.sum().item(),
    "bool": lambda states: bool(states.any()),
    "nonzero": lambda states: states.nonzero(),
    "boolean index": lambda states: states[states > 0],
    "unique": lambda states: states.unique(),
    "to the host": lambda states: states.cpu(),
    "from the host": lambda states: torch.ones(3).to(states.device),
    "an index on the host": lambda states: states[torch.tensor([0, 1])],
    "another device": lambda states: states + torch.ones(4),
    "repeats on the device": lambda states: states.repeat_interleave(states[:, 0].long(), 0),
    "checked lengths": lambda states: torch.segment_reduce(states, "sum", lengths=states[:, 0].long(), axis=0),
}


@pytest.mark.parametrize("kind", WAITS)
def test_waiting_is_found(kind: str) -> None:
    with fake_cuda(), pytest.raises((HostWaits, *FAKE_ERRORS)):
        WAITS[kind](torch.ones(4, 4, device="cuda"))


def test_the_backward_pass_is_that_of_torch() -> None:
    """On real tensors of the host, where torch's engine runs too."""
    learner = learner_of("bert", 0.0, {})
    materialise(learner, lambda name, parameter: torch.randn(parameter.shape) * 0.1)
    total, _ = learner(random_batch(learner.reads, UNEVEN, 300))
    expected = torch.autograd.grad(total, list(learner.parameters()), retain_graph=True)
    gradients = backward(total)
    for parameter, gradient in zip(learner.parameters(), expected, strict=True):
        torch.testing.assert_close(gradients[id(parameter)], gradient)
