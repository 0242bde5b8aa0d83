"""Where jobs run: how many workers fit, and how many threads each has."""

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.evaluation.config import QueueConfig
from sesame.evaluation.queue.runner import _check_size, _threads

MACHINE = {"CPU": 8.0, "GPU": 2.0}


def test_workers_share_the_processors_of_a_machine() -> None:
    assert _threads([8.0, 8.0], 2) == 8
    assert _threads([8.0, 8.0], 3) == 4
    assert _threads([8.0, 4.0], 4) == 2
    assert _threads([2.0], 5) == 1


def test_workers_that_do_not_fit_are_refused() -> None:
    _check_size([MACHINE, MACHINE], 4, 4, 1.0)
    _check_size([MACHINE], 4, 2, 0.5)
    _check_size([{"CPU": 4.0}], 4, 1, 0.0)
    for machines, workers, threads, gpus, fit in (
        ([MACHINE, MACHINE], 5, 4, 1.0, 4),
        ([MACHINE], 3, 1, 1.0, 2),
        ([{"CPU": 4.0}, {"CPU": 4.0}], 3, 3, 0.0, 2),
        ([{"CPU": 4.0}], 1, 1, 1.0, 0),
    ):
        with pytest.raises(ConfigError, match=rf"queue.workers {workers}: .*so {fit} fit on {len(machines)} machines"):
            _check_size(machines, workers, threads, gpus)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"workers": 2, "gpus_per_worker": 1.5}, "gpus_per_worker 1.5 is neither below 1 nor a whole number"),
        ({"address": "host:1"}, "address needs workers"),
        ({"workers": 1, "address": "host"}, "queue: 'address' = 'host'"),
    ],
)
def test_an_error_in_the_settings_is_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        configs.parse(values, QueueConfig, "queue")
    assert sentence in str(error.value)
