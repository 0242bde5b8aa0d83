"""Tests on a CUDA device: its kernels, every family, and runs in bf16 over NCCL."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain import precision
from sesame.pretrain.batch import Batch
from sesame.pretrain.checkpoints import save
from sesame.pretrain.checkpoints.load import open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.packing import assemble, layout
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.layers.attention import AttentionPattern, choose_kernel, grouped_attention
from sesame.pretrain.layers.cuda_attention import equal_length_attention, varlen_attention
from sesame.pretrain.layers.fp8 import fp8_linear
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.parallel.compiled import compile_blocks
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run, train
from tests.pretrain.family_runs import FAMILY_RUNS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
lacking = precision.lacks_fp8(torch.device("cuda")) if torch.cuda.is_available() else "no GPU"
needs_fp8 = pytest.mark.skipif(bool(lacking), reason=f"needs a GPU with fp8: {lacking}")


@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"window": 9}, {"causal": True, "window": 9}], ids=str)
def test_varlen_attention_equals_grouped_attention(changes: dict[str, Any]) -> None:
    lengths = np.array([5, 17, 17, 64, 128, 3])
    parts = layout(lengths)
    placed = type(parts)(parts.cu_seqlens_B1.cuda(), parts.longest, parts.groups)
    inputs: Any = [torch.randn(int(lengths.sum()), 4, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    for value in inputs:
        value.requires_grad_()
    outputs, gradients = [], []
    for kernel in (grouped_attention, varlen_attention):
        output = kernel(inputs[0], inputs[1], inputs[2], AttentionPattern(placed, placed, **changes), 0.125, 0.0)
        outputs.append(output.detach().float())
        gradients.append([g.float() for g in torch.autograd.grad(output.square().sum(), inputs)])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=2e-2, atol=2e-2)
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_equal_lengths_equals_grouped_attention(causal: bool) -> None:
    parts = layout(np.array([128] * 6)).to(torch.device("cuda"))
    pattern = AttentionPattern(parts, parts, causal=causal)
    # One tensor, as a joined product gives it.
    joined = torch.randn(768, 3 * 4 * 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    outputs, gradients = [], []
    for kernel in (grouped_attention, equal_length_attention, varlen_attention):
        query, key, value = (part.unflatten(-1, (4, 64)) for part in joined.split(256, -1))
        output = kernel(query, key, value, pattern, 0.125, 0.0)
        outputs.append(output.detach().float())
        gradients.append(torch.autograd.grad(output.square().sum(), joined)[0].float())
    for other in (1, 2):
        torch.testing.assert_close(outputs[0], outputs[other], rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(gradients[0], gradients[other], rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_with_a_bias_is_one_call(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like T5's, against the groups of similar lengths of the host."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    lengths, host = [5, 17, 17, 17, 17, 64, 70, 128], torch.device("cpu")
    torch.manual_seed(1)
    given = [torch.randn(sum(lengths), 4, 64) for _ in range(3)] + [torch.randn(4, 128, 128)]
    parts, outputs, gradients = layout(np.array(lengths)), [], []
    for device, kind in ((host, torch.float32), (torch.device("cuda"), dtype)):
        inputs = [value.to(device, kind).requires_grad_() for value in given]
        placed = parts.to(device)
        pattern = AttentionPattern(placed, placed, bias_HLL=inputs[3])
        assert len(placed.groups) == (1 if device.type == "cuda" else len(parts.groups))
        output = grouped_attention(inputs[0], inputs[1], inputs[2], pattern, 0.125, 0.0)
        outputs.append(output.detach().float().cpu())
        gradients.append([each.float().cpu() for each in torch.autograd.grad(output.square().sum(), inputs)])
        dropped = grouped_attention(inputs[0], inputs[1], inputs[2], pattern, 0.125, 0.2)
        assert torch.isfinite(dropped).all() and not torch.equal(dropped.detach().float().cpu(), outputs[-1])
    bound = 1e-4 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(*outputs, rtol=bound, atol=bound)
    for left, right in zip(*gradients, strict=True):
        assert float((left - right).abs().max()) < bound * float(left.abs().max())


@pytest.mark.parametrize("lengths", [[128] * 4, [5, 17, 64, 128]], ids=str)
def test_dropout_of_attention_has_the_right_mean_and_gradient(lengths: list[int]) -> None:
    """Values of ones: an output is the sum of the kept weights, whose mean is 1."""
    parts = layout(np.array(lengths)).to(torch.device("cuda"))
    pattern = AttentionPattern(parts, parts)
    kernel = choose_kernel("cuda", torch.bfloat16, pattern)
    query, key = (torch.randn(sum(lengths), 8, 64, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    value = torch.ones_like(query).requires_grad_()
    torch.manual_seed(1)
    output = kernel(query, key, value, pattern, 0.125, 0.2)
    sums = output.detach().float()
    assert float(sums.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(sums.std()) > 0.01
    torch.manual_seed(1)
    torch.testing.assert_close(kernel(query, key, value, pattern, 0.125, 0.2), output)
    # The sum of all outputs is linear in the values, so it equals their product with the gradient.
    output.float().sum().backward()
    assert value.grad is not None
    assert float(value.grad.float().sum()) == pytest.approx(float(sums.sum()), rel=0.02)


@pytest.mark.parametrize("name", FAMILY_RUNS)
def test_every_family_computes_the_same_on_cuda(
    name: str, family_settings: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    config = configs.parse(family_settings(name), RunConfig, "run.toml")
    data = open_dataset(config.data.dataset, verify=False)
    size = data.manifest.tokenizer.vocabulary_size
    learner = build(config.model, config.objectives, Vocabulary(size, data.tokenizer_path)).eval()
    value = random_value(1, config.model.init_std)
    materialise(learner, lambda name, parameter: value(name, parameter.shape))
    batch = next(iter(Batches(data, config.data, learner.reads, 1, DataRank(0, 1)).step(0)))
    expected, gradients = loss_and_gradients(learner, batch)
    learner.cuda()
    loss, on_cuda = loss_and_gradients(learner, batch.to(torch.device("cuda")))
    assert loss == pytest.approx(expected, rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for key, gradient in gradients.items():
        # The gradient of a key bias is only rounding errors, because the bias does not change the softmax.
        distance = (on_cuda[key] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-3 * largest)
        assert distance < 1e-4, f"{key}: {distance:.1e}"
    rounded, _ = loss_and_gradients(learner.bfloat16(), batch.to(torch.device("cuda")))
    assert rounded == pytest.approx(expected, rel=3e-2)


def loss_and_gradients(learner: Learner, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    learner.zero_grad()
    total, _ = learner(batch)
    total.backward()
    used = {name: part.grad for name, part in learner.named_parameters() if part.grad is not None}
    # Copies, because moving a module moves its gradients.
    return total.item(), {name: gradient.float().cpu().clone() for name, gradient in used.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILY_RUNS)
def test_no_pass_waits_for_the_device(
    name: str, dtype: torch.dtype, family_settings: Callable[..., dict[str, Any]]
) -> None:
    values = family_settings(name)
    values["model"]["dropout"] = 0.1
    config = configs.parse(values, RunConfig, "run.toml")
    data = open_dataset(config.data.dataset, verify=False)
    size = data.manifest.tokenizer.vocabulary_size
    learner = build(config.model, config.objectives, Vocabulary(size, data.tokenizer_path))
    value = random_value(1, config.model.init_std)
    materialise(learner, lambda name, parameter: value(name, parameter.shape).to("cuda", dtype))
    learner.cuda()
    for batch in list(Batches(data, config.data, learner.reads, 1, DataRank(0, 1)).step(0))[:2]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            learner(batch.to(torch.device("cuda")))[0].backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_run_on_cuda_learns_and_resumes(stage: int, settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    values = settings(
        parallel={"precision": "bf16", "zero_stage": stage},
        optimizer={"name": "adamw", "learning_rate": 2e-3},
        steps=60,
    )
    train(configs.parse(values, RunConfig, "run.toml"))
    train(configs.parse(values | {"steps": 64}, RunConfig, "run.toml"))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train"]["masked_lm"] for row in rows if "train" in row]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_checkpoint_has_the_values_of_its_step_on_cuda(
    stage: int, settings: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy to the host is made while the next step computes, and twice into the same memory."""
    values = settings(
        model={"width": 1024, "feed_forward_width": 4096, "layers": 4},
        optimizer={"name": "adamw", "learning_rate": 1e-2},
        parallel={"precision": "fp32" if stage == 0 else "bf16", "zero_stage": stage},
        steps=100,
    )
    config = configs.parse(values, RunConfig, "run.toml")
    run = Run(config, Mesh(config.parallel))
    write = save.save_file
    monkeypatch.setattr(save, "save_file", lambda tensors, path: (time.sleep(0.2), write(tensors, path)))
    for _ in range(2):
        run.train_step()
        expected = {
            key or "weights": {part.name: part.rows.cpu().clone() for part in run.engine.state(key)}
            for key in (None, "exp_avg", "exp_avg_sq")
        }
        run.save()
        for _ in range(2):
            run.train_step()
        run.saver.finish()
        assert run.saver.last is not None
        checkpoint = open_checkpoint(run.saver.last)
        for kind, tensors in expected.items():
            stored = checkpoint.tensors(kind)
            for name, tensor in tensors.items():
                assert torch.equal(stored.whole(name), tensor), f"{kind} of {name}"
    run.close()
    run.mesh.close()


@pytest.mark.parametrize("name", ["bert", "bert, modern", "t5, v1.1"])
def test_compiled_blocks_compute_the_same(name: str, family_settings: Callable[..., dict[str, Any]]) -> None:
    config = configs.parse(family_settings(name), RunConfig, "run.toml")
    data = open_dataset(config.data.dataset, verify=False)
    size = data.manifest.tokenizer.vocabulary_size
    learner = build(config.model, config.objectives, Vocabulary(size, data.tokenizer_path))
    value = random_value(1, config.model.init_std)
    materialise(learner, lambda name, parameter: value(name, parameter.shape).cuda())
    batch = next(iter(Batches(data, config.data, learner.reads, 1, DataRank(0, 1)).step(0))).to(torch.device("cuda"))
    expected, gradients = loss_and_gradients(learner, batch)
    compile_blocks(learner, torch.device("cuda"))
    loss, compiled = loss_and_gradients(learner, batch)
    assert loss == pytest.approx(expected, rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for key, gradient in gradients.items():
        distance = (compiled[key] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-3 * largest)
        assert distance < 1e-3, f"{key}: {distance:.1e}"


@needs_fp8
@pytest.mark.parametrize("tokens", [64, 37])
def test_products_in_fp8_are_those_of_a_cpu(tokens: int) -> None:
    torch.manual_seed(0)
    operands = [torch.randn(shape).bfloat16() for shape in ((tokens, 128), (96, 128), (96,), (tokens, 96))]
    found = []
    for device in ("cpu", "cuda"):
        states, weight, bias, upstream = (each.to(device) for each in operands)
        inputs = [each.requires_grad_() for each in (states, weight, bias)]
        output = fp8_linear(*inputs)
        found.append([output.detach().cpu(), *(each.cpu() for each in torch.autograd.grad(output, inputs, upstream))])
    for on_cpu, on_gpu in zip(*found, strict=True):
        # The 14 bits with which Hopper may sum in the forward pass.
        torch.testing.assert_close(on_gpu, on_cpu, rtol=2**-6, atol=2**-8 * float(on_cpu.abs().max()))


@pytest.mark.parametrize(
    "changes",
    [
        {"compile": True},
        pytest.param({"fp8": True}, marks=needs_fp8),
        pytest.param({"fp8": True, "compile": True}, marks=needs_fp8),
        pytest.param({"fp8": True, "compile": True, "recompute": "block"}, marks=needs_fp8),
    ],
    ids=str,
)
def test_a_run_in_bf16_learns(changes: dict[str, Any], settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    values = settings(
        parallel={"precision": "bf16", "zero_stage": 1, **changes},
        optimizer={"name": "adamw", "learning_rate": 2e-3},
        steps=60,
    )
    config = configs.parse(values, RunConfig, "run.toml")
    train(config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train"]["masked_lm"] for row in rows if "train" in row]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("name", ["gpt", "bert, modern"])
def test_captured_blocks_train_the_same(
    name: str, compiles: bool, family_settings: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Rows of one length and some micro-batches a step: the first steps are computed, the others replayed. Every second
    micro-batch of BERT is causal, which has graphs of its own."""
    norms = []
    for graphs in (False, True):
        parallel = {"precision": "bf16", "zero_stage": 1, "graphs": graphs, "compile": compiles}
        values = family_settings(name, parallel=parallel, output=str(tmp_path / f"{graphs}"))
        config = configs.parse(values, RunConfig, "run.toml")
        mesh = Mesh(config.parallel)
        run = Run(config, mesh)
        size, generator = run.dataset.manifest.tokenizer.vocabulary_size, np.random.default_rng(0)
        made = (rows_of_one_length(run, size, generator).to(mesh.device) for _ in range(run.batches.accumulation))
        batches = [replace(batch, causal=name != "gpt" and number % 2 == 1) for number, batch in enumerate(made)]
        found = []
        for _ in range(6):
            for batch in batches:
                run.engine.accumulate(batch)
            found.append(float(run.engine.step(1e-2)))
        norms.append(found)
        if run.engine.graphs is not None:
            assert len({causal for _, causal in run.engine.graphs.captured}) == (1 if name == "gpt" else 2)
        run.close()
        mesh.close()
    assert norms[0] == pytest.approx(norms[1], rel=2e-2)


def rows_of_one_length(run: Run, size: int, generator: np.random.Generator) -> Batch:
    def ragged(count: int, high: int) -> Ragged:
        return Ragged(generator.integers(5, high, 8 * count), np.arange(0, 8 * count + 1, count))

    positions = ragged(4, 40)
    positions.values.sort()
    columns = {
        "tokens": ragged(48, size),
        "first_segment_length": np.full(8, 20),
        "mask_positions": positions,
        "mask_labels": ragged(4, size),
        "pair_labels": generator.integers(0, 2, 8),
    }
    denominators = {"tokens": 384.0, "mask_labels": 32.0, "pair_labels": 8.0, "next_labels": 376.0}
    return assemble(columns, run.learner.reads, denominators)
