"""Parameter groups, and the optimizers against their papers' formulas and other implementations."""

import pytest
import torch
from torch import nn

from sesame.pretrain.optimizers import OPTIMIZERS, parameter_groups
from sesame.pretrain.optimizers.adafactor import Adafactor
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.lamb import Lamb
from sesame.pretrain.optimizers.norm_scaled import Segments


def test_biases_and_norms_have_no_weight_decay() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    matrices, vectors = parameter_groups(module, 0.01)
    assert [p.shape for p in matrices["params"]] == [(4, 3)] and matrices["weight_decay"] == 0.01
    assert len(vectors["params"]) == 3 and vectors["weight_decay"] == 0.0


def lamb_by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], lr: float, decay: float) -> torch.Tensor:
    """Algorithm 2 of You et al. 2020, written out."""
    mean = square = torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        update = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-6) + decay * weight
        weight = weight - lr * weight.norm() / update.norm() * update
    return weight


def test_lamb_is_algorithm_2() -> None:
    torch.manual_seed(1)
    weights = [torch.randn(4, 3), torch.randn(5)]
    gradients = [[torch.randn_like(weight) for _ in range(3)] for weight in weights]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    config = OptimizerConfig(name="lamb", learning_rate=0.01, weight_decay=0.1)
    optimizer = OPTIMIZERS["lamb"].create([{"params": parameters, "weight_decay": 0.1}], config)
    for step in range(3):
        for parameter, row in zip(parameters, gradients, strict=True):
            parameter.grad = row[step].clone()
        optimizer.step()
    for parameter, weight, row in zip(parameters, weights, gradients, strict=True):
        torch.testing.assert_close(parameter.data, lamb_by_hand(weight, row, 0.01, 0.1))


def test_lamb_over_a_flat_buffer_keeps_one_ratio_for_each_parameter() -> None:
    torch.manual_seed(1)
    weights = [torch.randn(12) * 5, torch.randn(5)]
    gradients = [[torch.randn_like(weight) for _ in range(3)] for weight in weights]
    flat = nn.Parameter(torch.cat(weights))
    optimizer = Lamb([flat], lr=0.01, betas=(0.9, 0.999), weight_decay=0.1)
    optimizer.set_segments({id(flat): Segments((0, 1), (0, 12), (12, 5))}, [12, 5], lambda squares: squares)
    for step in range(3):
        flat.grad = torch.cat([row[step] for row in gradients])
        optimizer.step()
    expected = torch.cat([lamb_by_hand(w, row, 0.01, 0.1) for w, row in zip(weights, gradients, strict=True)])
    torch.testing.assert_close(flat.data, expected)


def train(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], gradients: list[list[torch.Tensor]]
) -> None:
    """``gradients`` has a row for each parameter and a column for each step."""
    for step in range(len(gradients[0])):
        for parameter, row in zip(parameters, gradients, strict=True):
            parameter.grad = row[step].clone()
        optimizer.step()


def random_tensors(*shapes: tuple[int, ...]) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    """Weights, and gradients that grow so fast that the update's RMS is above 1 and clipped."""
    torch.manual_seed(1)
    weights = [torch.randn(shape) for shape in shapes]
    return weights, [[torch.randn_like(weight) * 3**step for step in range(4)] for weight in weights]


def adafactor_by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], decay: float, scale: bool) -> torch.Tensor:
    """Algorithms 4 and 5 of Shazeer & Stern 2018, in double precision."""
    weight, square, clipped = weight.double(), torch.zeros_like(weight).double(), 0
    for step, gradient in enumerate(gradients, 1):
        keep = 1 - step**-0.8
        square = keep * square + (1 - keep) * (gradient.double() ** 2 + 1e-30)
        update = gradient / square.sqrt()
        rms = float((update**2).mean().sqrt())
        clipped += rms > 1.01
        rate = 0.01 * max(1e-3, float((weight**2).mean().sqrt())) if scale else 0.01
        weight = weight * (1 - 0.01 * decay) - rate * update / max(1.0, rms)
    assert clipped, "no update was clipped"
    return weight.float()


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adafactor_is_its_paper_with_a_full_second_moment(scale: bool, decay: float) -> None:
    weights, gradients = random_tensors((4, 3), (5,))
    weights[1].zero_()
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    config = OptimizerConfig(name="adafactor", learning_rate=0.01, weight_decay=decay, scale_by_parameter=scale)
    train(OPTIMIZERS["adafactor"].create([{"params": parameters}], config), parameters, gradients)
    for parameter, weight, row in zip(parameters, weights, gradients, strict=True):
        torch.testing.assert_close(parameter.data, adafactor_by_hand(weight, row, decay, scale), rtol=1e-6, atol=1e-7)


def test_adafactor_over_a_flat_buffer_scales_each_parameter() -> None:
    (large, small), gradients = random_tensors((12,), (5,))
    flat = nn.Parameter(torch.cat([large * 5, small]))
    optimizer = Adafactor([flat], lr=0.01)
    optimizer.set_segments({id(flat): Segments((0, 1), (0, 12), (12, 5))}, [12, 5], lambda squares: squares)
    train(optimizer, [flat], [[torch.cat(pair) for pair in zip(*gradients, strict=True)]])
    rows = zip([large * 5, small], gradients, strict=True)
    expected = torch.cat([adafactor_by_hand(weight, row, 0.0, True) for weight, row in rows])
    torch.testing.assert_close(flat.data, expected, rtol=1e-6, atol=1e-7)


def test_adafactor_on_vectors_is_that_of_transformers() -> None:
    """transformers factors the second moment of matrices, not of vectors."""
    from transformers.optimization import Adafactor as Theirs

    weights, gradients = random_tensors((12,), (5,))
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    train(Adafactor(ours, lr=0.01), ours, gradients)
    train(Theirs(theirs, lr=0.01, relative_step=False, scale_parameter=True), theirs, gradients)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.data, other.data, rtol=1e-6, atol=1e-7)


def test_adagrad_is_that_of_torch_and_its_sum_starts_at_one() -> None:
    weights, gradients = random_tensors((4, 3), (5,))
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    config = OptimizerConfig(name="adagrad", learning_rate=0.2, weight_decay=0.0)
    train(OPTIMIZERS["adagrad"].create([{"params": ours}], config), ours, gradients)
    reference = torch.optim.Adagrad(theirs, 0.2, initial_accumulator_value=1.0, eps=1e-6)
    train(reference, theirs, gradients)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.data, other.data, rtol=1e-6, atol=1e-7)
    state = OPTIMIZERS["adagrad"].state.create(weights[0], 7)
    assert state.keys() == {"sum"} and torch.equal(state["sum"], torch.ones(4, 3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_step_count_is_where_it_is_read(name: str) -> None:
    """torch's fused AdamW refuses a count on another device than the moments; LAMB and Adafactor read it on the host,
    and would wait for a GPU in each parameter."""
    state = OPTIMIZERS[name].state.create(torch.empty(3, device="meta"), 4)
    on_host = {key for key, value in state.items() if not value.is_meta}
    assert on_host == ({"step"} if name in ("lamb", "adafactor") else set())
