"""The assumptions of a plan: a row of the table of devices, or what ``sesame doctor`` measured, and ``--assume``."""

from pathlib import Path
from typing import Any

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.machine import IMMEASURABLE, Device, Machine
from sesame.launch.planning.request import DEVICE, Assumptions, Planner, Request

GIB = 2**30


def assumptions(request: Request, machine: Machine | None, precision: str) -> Assumptions:
    """Return the row of the device, or what was measured of a machine, with the changes of ``--assume``.

    Args:
        machine: of ``request.machine``.
        precision: ``parallel.precision`` of the run.

    Raises:
        ConfigError: there is no such device or assumption.
    """
    from sesame.pretrain.planning import gpus

    changes: dict[str, Any] = {}
    name = request.device or DEVICE
    if machine is not None:
        changes = _measured(machine, precision)
        name = "cpu" if machine.devices[0].type == "cpu" else DEVICE
    if request.memory_gib is not None:
        changes["memory_gib"] = request.memory_gib
    for each in request.assume:
        try:
            configs.apply_override(changes, each)
        except ConfigError as error:
            raise ConfigError(str(error).replace("--set", "--assume")) from None
    return gpus.assumptions(name, changes)


def _measured(machine: Machine, precision: str) -> dict[str, Any]:
    """Return the assumptions that a machine's file replaces; those are speeds that were reached, not peaks."""
    from sesame.pretrain.planning import gpus
    from sesame.pretrain.planning.peak import row_of

    device = machine.devices[0]
    row = row_of(device.name)
    changes: dict[str, Any] = {
        # Not measured.
        "fp8_tflops": gpus.assumptions(row, {}).fp8_tflops if row else 0.0,
        "memory_gib": device.memory_bytes / GIB,
        "fp32_tflops": device.products.fp32 / 1e12,
        "bf16_tflops": device.products.bf16 / 1e12,
        "memory_bandwidth": device.memory_bandwidth / 1e9,
        "efficiency": 1.0,
        "bandwidth_efficiency": 1.0,
        "devices_per_node": len(machine.devices),
    }
    if device.type == "cpu" and device.products.bf16 <= device.products.fp32:
        changes["bf16_tflops"] = 0.0
    if precision == "auto":
        precision = "bf16" if changes["bf16_tflops"] else "fp32"
    changes |= _layers(device, precision)
    if machine.reduction_bandwidth:
        processes = len(machine.devices)
        # An all-reduce moves each entry 2 (n - 1) / n times.
        moved = machine.reduction_bandwidth * 2 * (processes - 1) / processes
        changes |= {"link_within": moved / 1e9, "link_efficiency": 1.0}
    return changes


def _layers(device: Device, precision: str) -> dict[str, Any]:
    """Return the assumptions that measured layers replace: a training's operations are smaller than single ones."""
    layers = device.layers.get(precision)
    if layers is None:
        return {}
    return {
        f"{precision}_tflops": layers.flops / 1e12,
        "operand_bandwidth": layers.operand_bandwidth / 1e9 if layers.operand_bandwidth < IMMEASURABLE else 0.0,
        "memory_bandwidth": layers.bandwidth / 1e9,
        "function_nanoseconds": layers.function_seconds * 1e9,
        "operation_microseconds": layers.operation_seconds * 1e6,
        "new_product_milliseconds": layers.new_product_seconds * 1e3,
    }


def calibration(machine: Machine, planner: Planner) -> Assumptions:
    """Return a planner's assumptions with the ratio of the training self-test's measured time to its planned one.

    A step does more than the operations that are counted, and layers are measured on CPUs only. Without a self-test in
    the run's precision nothing changes.
    """
    from sesame.data_pipeline.dataset.synthetic import MASKED
    from sesame.launch.doctor.training import SHAPES, run_config
    from sesame.pretrain.config import RunConfig
    from sesame.pretrain.planning.plan import Planner
    from sesame.pretrain.planning.rows import Rows

    training, processes = machine.training, len(machine.devices)
    if training is None or training.precision != planner.precision or planner.assumed.calibration != 1.0:
        return planner.assumed
    shape = SHAPES[machine.devices[0].type]
    values = run_config(shape, Path("self-test"), Path("self-test"), processes)
    values["parallel"] = {"precision": training.precision}
    run = configs.parse(values, RunConfig, "the self-test")
    rows = Rows(shape.positions, round(MASKED * shape.positions), "the self-test")
    tested = Planner(run, shape.vocabulary, rows, planner.assumed)
    layout = tested.configured(processes)
    assert layout is not None
    measured = tested.step_tokens / training.tokens_per_second
    ratio = measured / tested.plan(layout, exact=True).time.total
    return planner.assumed.model_copy(update={"calibration": ratio})
