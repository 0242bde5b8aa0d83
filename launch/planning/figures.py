"""Numbers as people read them: three digits, thousands apart, no exponents, and a unit that fits."""

import math


def figure(value: float, digits: int = 3) -> str:
    """Return ``value`` with so many significant digits, or all of its whole ones: 3,780, 73.1, 0.0542."""
    if not value:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    shown = f"{value:,.{min(decimals, 9)}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """Return ``value`` in the first, largest unit that it reaches, or in the last one."""
    size, name = next((unit for unit in units if value >= unit[0]), units[-1])
    return f"{figure(value / size)} {name}"


def gib(size: float) -> str:
    """Memory."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def disk(size: float) -> str:
    """Bytes of a file."""
    return _scaled(size, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")))


def count(value: float) -> str:
    """A number of things that may be very large."""
    return f"{value:,.0f}" if value < 1e6 else _scaled(value, ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")))


def flops(value: float) -> str:
    """Floating-point operations, as papers write them: 3.14e23."""
    return f"{value:.3g}".replace("e+", "e")


def energy(watt_hours: float) -> str:
    return _scaled(watt_hours, ((1e6, "MWh"), (1e3, "kWh"), (1.0, "Wh")))


def dollars(value: float) -> str:
    return f"{value:,.0f} dollars" if value >= 100 else f"{value:,.2f} dollars"
