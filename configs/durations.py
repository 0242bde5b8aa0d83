"""Times as people read them."""

UNITS = ((3 * 86400.0, 86400.0, "days"), (5400.0, 3600.0, "h"), (90.0, 60.0, "min"), (0.0, 1.0, "s"))
"""From so many seconds on: the seconds of a unit, and its name."""


def duration(seconds: float) -> str:
    """Return a time of at least 0, with one decimal below ten units: 0.3 s, 42 s, 3.5 h, 158 days."""
    size, unit = next((size, unit) for least, size, unit in UNITS if seconds >= least)
    value = seconds / size
    shown = f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return f"{shown} {unit}"
