"""``machine.json``: what is written is read again, and what is wrong in it is named."""

from pathlib import Path

import pytest

from sesame.configs.errors import ConfigError
from sesame.configs.machine import Device, Machine, Products, Training

DEVICE = Device(
    name="GPU", type="cuda", memory_bytes=2**36, products=Products(fp32=5e13, bf16=7e14), memory_bandwidth=3e12, cores=8
)


@pytest.mark.parametrize(
    "machine",
    [
        Machine(devices=(DEVICE,)),
        Machine(
            devices=(DEVICE, DEVICE),
            reduction_bandwidth=2e11,
            training=Training(tokens_per_second=1e5, flops_per_second=3e14, precision="bf16"),
        ),
    ],
)
def test_it_is_read_as_it_was_written(machine: Machine, tmp_path: Path) -> None:
    machine.save(tmp_path / "new" / "machine.json")
    assert Machine.load(tmp_path / "new" / "machine.json") == machine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ('{"format": 2}', "no machine.json of format 1"),
        ('{"format": 1, "devices": []}', "devices"),
        ('{"format": 1, "devices": [{"colour": 1}]}', "devices.0"),
        ('{"format": 1}', "'devices' is missing"),
    ],
)
def test_what_is_wrong_is_named(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        Machine.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sesame doctor --output"):
        Machine.load(tmp_path / "machine.json")
