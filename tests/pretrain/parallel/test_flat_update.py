"""The update on flat tensors equals DeepSpeed's own, which works parameter by parameter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.parallel import engine, flat_update
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run

STEPS = 3


class NoFlatUpdate:
    """Leaves DeepSpeed's methods in place."""

    def __new__(cls, wrapper: Any, clipping: float) -> Any:
        return None


def trained(values: dict[str, Any]) -> tuple[list[float], torch.Tensor, torch.Tensor]:
    """Return the norms, the gradients of the last step, and how the master weights have changed by then."""
    config = configs.parse(values, RunConfig, "run.toml")
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    gradients: list[torch.Tensor] = []
    take_step = run.engine.step

    def step(learning_rate: float, *others: Any) -> DeviceNumber:
        gradients.append(torch.cat([value.flatten() for value in run.engine.full_gradients().values()]))
        return take_step(learning_rate, *others)

    run.engine.step = step  # type: ignore[method-assign]
    try:
        before = torch.cat([part.rows.flatten() for part in run.engine.state(None)])
        norms = [float(run.train_step().gradient_norm) for _ in range(STEPS)]
        after = torch.cat([part.rows.flatten() for part in run.engine.state(None)])
    finally:
        run.close()
        mesh.close()
    return norms, gradients[-1], after - before


@pytest.mark.parametrize(("small", "micro_batch"), [(2**18, 0), (2**18, 4), (1500, 4)])
def test_flat_update_equals_deepspeeds(
    small: int, micro_batch: int, settings: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat_update, "SMALL_ENTRIES", small)
    values = settings(
        data={"micro_batch": micro_batch},
        parallel={"precision": "bf16", "zero_stage": 1},
        # Small enough that every gradient is clipped. Not Adam, which divides rounding errors by their size.
        optimizer={"name": "sgd", "learning_rate": 0.5, "gradient_clipping": 0.1},
    )
    ours = trained(values)
    monkeypatch.setattr(engine, "FlatUpdate", NoFlatUpdate)
    theirs = trained(values)
    # In bf16 a rounding error of the sums can flip the rounding of a weight, so steps drift apart slowly.
    assert ours[0] == pytest.approx(theirs[0], rel=1e-3) and ours[0][0] == pytest.approx(theirs[0][0], rel=1e-5)
    assert min(ours[0]) > 0.1
    for left, right in zip(ours[1:], theirs[1:], strict=True):
        assert float((left - right).norm() / right.norm()) < 1e-2


def test_a_gradient_that_is_not_a_number_is_in_the_norm(settings: Callable[..., dict[str, Any]]) -> None:
    values = settings(parallel={"precision": "bf16", "zero_stage": 1})
    config = configs.parse(values, RunConfig, "run.toml")
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    try:
        for batch in run.batches.step(0):
            run.engine.accumulate(batch)
        assert run.engine.flat_update is not None
        run.engine.flat_update.ranges[0].flat_sums[3] = torch.nan
        assert not torch.isfinite(torch.tensor(float(run.engine.step(1e-3))))
    finally:
        run.close()
        mesh.close()


def test_the_norm_of_millions_of_entries_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    flats = [torch.randn(size, generator=generator) * 1e-3 for size in (5_400_001, 3, 2 * flat_update.ROW)]
    expected = torch.cat(flats).double().norm()
    assert float(flat_update.norm_of(flats)) == pytest.approx(float(expected), rel=1e-6)
