"""The training self-test: a small BERT through the parts of a real run, on all processes, for at most two minutes."""

import contextlib
import hashlib
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sesame.configs.json_lines import finite_or_none
from sesame.launch.doctor.check import Answer, Finding, Level, Verdict
from sesame.launch.doctor.context import Context


class Shape(NamedTuple):
    """Sizes of the model and the batch."""

    layers: int
    width: int
    positions: int
    """Tokens of a sequence."""
    vocabulary: int
    batch: int
    """Sequences of each process in a step."""


SHAPES = {"cpu": Shape(2, 256, 128, 8192, 16), "cuda": Shape(12, 768, 512, 30528, 32)}
"""By device type: the demo's model, and BERT-base."""
SECONDS, QUICK_SECONDS = 90.0, 15.0
STEPS, QUICK_STEPS = 200, 60
"""At most so many."""
WARM_UP = 5
"""First steps, which are not timed: libraries choose their kernels and allocate memory."""
LEAST_STEPS = 20
"""Fewer within the time say nothing about the loss."""
LEAST_FALL = 0.5
"""Nats by which the loss falls from the first steps to the last ones, at least; 60 steps give more than 1."""
AVERAGED = 5
"""Steps of a mean of losses."""


def run_config(shape: Shape, dataset: Path, output: Path, processes: int) -> dict[str, Any]:
    """Values of a run's TOML file."""
    return {
        "output": str(output),
        "steps": STEPS,
        "data": {"dataset": str(dataset), "global_batch": shape.batch * processes},
        "model": {
            "family": "bert",
            "layers": shape.layers,
            "width": shape.width,
            "heads": shape.width // 64,
            "feed_forward_width": 4 * shape.width,
            "positions": shape.positions,
            "norm_placement": "pre",
            "dropout": 0.0,
            "attention_dropout": 0.0,
        },
        "objectives": {"masked_lm": 1.0},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "betas": [0.9, 0.98], "gradient_clipping": 1.0},
        "schedule": {"warmup_steps": 10, "decay": "constant"},
        "report": {"tensorboard": False},
    }


def measure(context: Context) -> dict[str, Any]:
    """Train, and return the losses, the speed and the digest of the weights; a collective."""
    from sesame import configs
    from sesame.data_pipeline.dataset import synthetic
    from sesame.pretrain.config import RunConfig
    from sesame.pretrain.train import Run

    mesh = context.mesh
    shape = SHAPES[mesh.device.type]
    # Each process has a folder of its own: the machines may share none.
    folder = Path(context.closing.enter_context(TemporaryDirectory()))
    dataset = folder / "dataset"
    dataset.mkdir()
    synthetic.write(dataset, shape.vocabulary, shape.positions)
    values = run_config(shape, dataset, folder / "run", context.world)
    # The run would print its first line and draw a progress bar.
    with contextlib.redirect_stdout(io.StringIO()):
        run = Run(configs.parse(values, RunConfig, "the self-test"), mesh)
        try:
            return _train(run, context) | {"digest": _digest(run), "precision": run.precision.name}
        finally:
            run.close()


def _train(run: Any, context: Context) -> dict[str, Any]:
    import torch

    mesh = context.mesh
    limit, steps = (QUICK_SECONDS, QUICK_STEPS) if context.quick else (SECONDS, STEPS)
    losses: list[float] = []
    norms: list[float] = []
    times: list[float] = []
    tokens = flops = 0.0
    end = begin = time.perf_counter()
    while len(losses) < steps and mesh.from_rank_zero(end - begin) < limit:
        step = run.train_step()
        losses.append(float(step.losses["masked_lm"]))
        norms.append(float(step.gradient_norm))
        tokens, flops = tokens + step.tokens, flops + step.flops
        start, end = end, time.perf_counter()
        times.append(end - start)
    totals = torch.tensor([*losses, tokens, flops], dtype=torch.float64, device=mesh.device)
    *sums, all_tokens, all_flops = mesh.sum_over_data(totals).tolist()
    # Other work on the machine makes some steps longer.
    seconds = len(times) * median(times[WARM_UP:] or times)
    return {
        "losses": [finite_or_none(value / context.world) for value in sums],
        "is_finite": all(math.isfinite(value) for value in (*sums, *norms)) and min(norms) >= 0,
        "tokens_per_second": all_tokens / seconds,
        "flops_per_second": all_flops / seconds,
    }


def _digest(run: Any) -> str:
    """SHA-256 of all weights of this process; they are whole on each under ZeRO 1."""
    sha256 = hashlib.sha256()
    for _, parameter in sorted(run.learner.named_parameters()):
        sha256.update(parameter.detach().float().cpu().numpy().tobytes())
    return sha256.hexdigest()


def judge(answers: Sequence[Answer]) -> Verdict:
    first = answers[0].value
    found: list[Finding] = []
    for answer in answers:
        if not answer.value["is_finite"]:
            what = f"{answer.process} trained to a loss or gradient that is not finite"
            found.append(
                Finding(Level.BAD, what, "test the memory and the driver of this machine; take it out of the job")
            )
        elif answer.value["digest"] != first["digest"]:
            what = f"{answer.process} has other weights than process 0 after the same steps"
            found.append(Finding(Level.BAD, what, "use the same versions, devices and environment on all machines"))
    if not first["is_finite"]:
        return Verdict("not finite", found)
    losses = first["losses"]
    begin, end = (sum(part) / len(part) for part in (losses[:AVERAGED], losses[-AVERAGED:]))
    if len(losses) < LEAST_STEPS:
        what = f"only {len(losses)} steps were trained in the time of the self-test"
        found.append(Finding(Level.SLOW, what, "see the speeds above; give the job more cores or a GPU"))
    elif begin - end < LEAST_FALL:
        what = f"the loss fell from {begin:.2f} to {end:.2f} only in {len(losses)} steps"
        found.append(Finding(Level.BAD, what, "install the versions of constraints.txt; this machine computes wrongly"))
    text = (
        f"{len(losses)} steps in {first['precision']}, loss {begin:.2f} to {end:.2f}, "
        f"{first['tokens_per_second']:,.0f} tokens/s, {first['flops_per_second'] / 1e12:.2f} model TFLOP/s"
    )
    return Verdict(text, found)
