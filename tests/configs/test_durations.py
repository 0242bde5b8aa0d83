"""Times as people read them."""

import pytest

from sesame.configs.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (2e-5, "0 s"), (0.26, "0.3 s"), (9.94, "9.9 s"), (9.96, "10 s"), (89.4, "89 s"), (90, "1.5 min"),
        (600, "10 min"), (9000, "2.5 h"), (71.9 * 3600, "72 h"), (72 * 3600, "3 days"), (3780.2 * 3600, "158 days"),
        (5e9, "57,870 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
