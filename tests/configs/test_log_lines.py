"""Lines of a log begin with the time of day; those of a terminal do not."""

import re
import time

import pytest

from sesame.configs.log_lines import timed


def test_a_log_has_the_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d step 1", timed("step 1", is_terminal=False))
    moment = time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0))
    monkeypatch.setattr(time, "strftime", lambda form, strftime=time.strftime: strftime(form, moment))
    assert timed("step 1", is_terminal=False) == "03:04:05 step 1"
    assert timed("step 1", is_terminal=True) == "step 1"
