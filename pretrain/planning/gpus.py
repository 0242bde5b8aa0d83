"""The table of devices, and everything else that a plan assumes and a user can change.

Products are the dense rates of the makers' data sheets (NVIDIA: Volta, Ampere, Hopper and Blackwell data sheets and the
Ada GPU architecture paper; AMD: MI300X data sheet), in fp32 those of the vector units, for Sesame leaves TF32 off.
Where a sheet gives rates with sparsity, they are halved. Consumer cards are given with fp32 accumulation. Memory is
what the driver reports. Links are of one GPU in one direction: NVLink or Infinity Fabric between all devices of a
machine, else PCIe, or for a GH200, which is a machine of its own, the network; and the network of the maker's own
servers (DGX: 400 Gb/s for each H100, H200 and B200, 200 Gb/s for an A100, 100 Gb/s for two V100). Watts are the board's
limit. Prices are the middle of what clouds asked for an hour on demand in 2026, or a guess where none is offered: use
your own.

The efficiencies of computing are those with which three measured steps on one H100, of BERT-large and a GPT of 1.3
billion parameters, come out within a twentieth (benchmarks/RESULTS.md); those of links are assumptions, for no run on
several GPUs has been measured yet.
"""

import re
from typing import Any, Literal

from pydantic import Field

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError


class Assumptions(Section):
    """What a plan is made from, beside the run. Each value can be changed with ``--assume NAME=VALUE``."""

    device: Literal["cuda", "cpu"] = Field(default="cuda", description="whose kernels are used")
    memory_gib: float = Field(gt=0, description="memory of one device, GiB")
    reserve_gib: float = Field(default=1.5, ge=0, description="of it for the driver's context, NCCL and cuBLAS, GiB")
    fragmentation: float = Field(default=0.05, ge=0, lt=1, description="of the rest that the allocator cannot use")
    bf16_tflops: float = Field(ge=0, description="peak of bf16 products, TFLOP/s; 0: not in hardware")
    fp32_tflops: float = Field(gt=0, description="peak of fp32 products, TFLOP/s")
    fp8_tflops: float = Field(default=0.0, ge=0, description="peak of fp8 products, TFLOP/s; 0: none that Sesame uses")
    efficiency: float = Field(default=0.83, gt=0, le=1, description="of the peak that products reach")
    fp8_efficiency: float = Field(default=0.65, gt=0, le=1, description="of the peak of fp8 that products reach")
    operand_bandwidth: float = Field(
        default=0.0, ge=0, description="at which a product's operands are read and written, GB/s; 0: costs no time"
    )
    new_product_milliseconds: float = Field(
        default=0.0, ge=0, description="once for each new size of a product; rows of uneven length have new ones"
    )
    memory_bandwidth: float = Field(gt=0, description="of the device's memory, GB/s")
    bandwidth_efficiency: float = Field(default=0.48, gt=0, le=1, description="of it that elementwise work reaches")
    function_nanoseconds: float = Field(
        default=0.0, ge=0, description="for each entry of GELU, softmax and dropout, beyond its bytes"
    )
    link_within: float = Field(gt=0, description="between devices of a machine, GB/s each, one direction")
    link_between: float = Field(gt=0, description="between machines, GB/s for each device, one direction")
    link_efficiency: float = Field(default=0.75, gt=0, le=1, description="of both that collectives reach")
    host_link: float = Field(default=25.0, gt=0, description="between a device and its host's memory, GB/s")
    host_gib: float = Field(default=128.0, ge=0, description="host memory for each device, GiB, for offloading")
    host_bandwidth: float = Field(default=25.0, gt=0, description="of it for each device, GB/s, for offloaded updates")
    devices_per_node: int = Field(default=8, gt=0, description="devices of one machine")
    overlap: float = Field(default=0.5, ge=0, le=1, description="of ZeRO 2's and 3's communication that costs no time")
    operation_microseconds: float = Field(default=14.0, ge=0, description="to start one operation from Python")
    calibration: float = Field(
        default=1.0, gt=0, description="computing takes so many times as long as the rates above say"
    )
    watts: float = Field(gt=0, description="of one device under load")
    pue: float = Field(default=1.2, ge=1, description="power of the building / power of its machines")
    price: float = Field(ge=0, description="dollars for one device and hour")

    @property
    def usable_bytes(self) -> float:
        """Bytes of a device that tensors can take."""
        return (self.memory_gib - self.reserve_gib) * 2**30 * (1 - self.fragmentation)

    def flops(self, precision: str) -> float:
        """FLOP/s that products of this number format reach; bf16 that is emulated counts as fp32."""
        peak = self.bf16_tflops if precision == "bf16" and self.bf16_tflops else self.fp32_tflops
        return peak * 1e12 * self.efficiency


NAMES = (
    "memory_gib",
    "fp8_tflops",
    "bf16_tflops",
    "fp32_tflops",
    "memory_bandwidth",
    "link_within",
    "link_between",
    "watts",
    "price",
)
ROWS: dict[str, tuple[float, ...]] = {
    "b200": (179.0, 4500, 2250, 75, 7700, 900, 50, 1000, 5.5),
    "h200": (140.4, 1978.9, 989.4, 67, 4800, 450, 50, 700, 3.8),
    "h200-nvl": (140.4, 1671, 835.5, 60, 4800, 64, 50, 600, 3.4),
    "gh200": (95.6, 1978.9, 989.4, 67, 4000, 50, 50, 1000, 2.0),
    "h100-80gb": (79.6, 1978.9, 989.4, 67, 3350, 450, 50, 700, 3.0),
    "h100-nvl": (93.6, 1671, 835.5, 60, 3900, 64, 50, 400, 2.8),
    "h100-pcie": (79.6, 1513, 756.5, 51, 2000, 64, 50, 350, 2.4),
    "a100-80gb": (79.3, 0, 312, 19.5, 2039, 300, 25, 400, 1.8),
    "a100-40gb": (39.6, 0, 312, 19.5, 1555, 300, 25, 400, 1.3),
    "v100-32gb": (31.7, 0, 0, 15.7, 900, 150, 6.25, 300, 0.9),
    "v100-16gb": (15.8, 0, 0, 15.7, 900, 150, 6.25, 300, 0.6),
    "l40s": (44.7, 733, 362, 91.6, 864, 32, 12.5, 350, 1.1),
    "l4": (22.5, 242.5, 121, 30.3, 300, 32, 6.25, 72, 0.7),
    "rtx5090": (31.8, 419, 209.5, 104.8, 1792, 64, 1.25, 575, 0.7),
    "rtx4090": (23.6, 330.3, 165.2, 82.6, 1008, 32, 1.25, 450, 0.4),
    "mi300x": (191.7, 0, 1307, 163.4, 5300, 448, 50, 750, 2.5),
}
BARE = {"h100": "h100-80gb"}
"""Name without a form -> the form that is meant."""
CPU: dict[str, Any] = {
    "device": "cpu",
    "memory_gib": 64.0,
    "reserve_gib": 1.0,
    "fragmentation": 0.0,
    "bf16_tflops": 0.0,
    "fp32_tflops": 1.0,
    "efficiency": 0.75,
    "bandwidth_efficiency": 0.9,
    "memory_bandwidth": 100.0,
    "link_within": 5.0,
    "link_between": 1.25,
    "operation_microseconds": 3.0,
    "devices_per_node": 1,
    "watts": 200.0,
    "price": 0.5,
}
"""A server of 16 cores with AVX-512; a file of ``sesame doctor`` says what a machine really does."""


def find(name: str) -> str:
    """Return the row of the table that a name means: in capitals, with spaces, without dashes, or as far as it is
    unambiguous.

    Raises:
        ConfigError: there is none, or several begin so.
    """
    names = (*ROWS, "cpu")
    wanted = _letters(name)
    if exact := [each for each in names if _letters(each) == wanted]:
        return exact[0]
    if wanted in BARE:
        return BARE[wanted]
    found = [each for each in names if _letters(each).startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found and wanted:
        raise ConfigError(f"--gpu {name}: give one of {', '.join(found)}")
    raise ConfigError(f"--gpu {name}: is not in the table; it has {', '.join(names)}")


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def assumptions(name: str, changes: dict[str, Any]) -> Assumptions:
    """Return the row of a device with ``changes``.

    Raises:
        ConfigError: there is no such device or assumption, or a value is impossible.
    """
    name = find(name)
    row: dict[str, Any] = CPU if name == "cpu" else dict(zip(NAMES, ROWS[name], strict=True))
    values = configs.parse({**row, **changes}, Assumptions, "--assume")
    if values.reserve_gib >= values.memory_gib:
        raise ConfigError(
            f"--assume: reserve_gib {values.reserve_gib} is not less than memory_gib {values.memory_gib}; lower it"
        )
    return values
