"""In bf16 on a CPU the engine rounds the sizes of a batch; in fp32 it computes the tokens that there are."""

from collections.abc import Callable
from typing import Any

import pytest

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_sizes_repeat_in_bf16(precision: str, settings: Callable[..., dict[str, Any]]) -> None:
    values = settings(data={"micro_batch": 4}, parallel={"precision": precision, "zero_stage": 1})
    config = configs.parse(values, RunConfig, "run.toml")
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    computed: list[int] = []
    run.learner.backbone.token_embedding.register_forward_hook(lambda _, inputs, __: computed.append(len(inputs[0])))
    try:
        batches = list(run.batches.step(0))
        losses = [run.engine.accumulate(batch) for batch in batches]
        run.engine.evaluate(batches[0])
    finally:
        run.close()
        mesh.close()
    tokens = [batch.tokens for batch in [*batches, batches[0]]]
    assert any(count % 64 for count in tokens)
    assert computed == ([-(-count // 64) * 64 for count in tokens] if precision == "bf16" else tokens)
    assert all(float(loss) > 0 for each in losses for loss in each.values())
