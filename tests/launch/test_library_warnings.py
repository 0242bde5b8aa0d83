"""Only warnings of libraries about their own code are ignored."""

import warnings

import pytest

from sesame.launch.library_warnings import ignore_library_warnings

APEX = "Transformer Engine and Apex are not installed"
BARRIER = "barrier(): using the device under current context. You can specify `device_id`"


@pytest.mark.parametrize(
    ("message", "category", "module", "shown"),
    [
        ("all_gather is deprecated", FutureWarning, "torch.distributed.c10d_logger", False),
        ("old name", FutureWarning, "deepspeed.runtime.engine", False),
        ("old name", DeprecationWarning, "torch.jit._script", False),
        (APEX, UserWarning, "megatron.core.optimizer", False),
        (BARRIER, UserWarning, "torch.distributed.distributed_c10d", False),
        ("Some coalesced collectives haven't been launched", UserWarning, "torch.distributed.distributed_c10d", True),
        ("the loss scale overflows", UserWarning, "deepspeed.runtime.engine", True),
        ("invalid value", RuntimeWarning, "megatron.core.optimizer", True),
        (APEX, UserWarning, "sesame.pretrain.train", True),
        ("old name", FutureWarning, "sesame.pretrain.train", True),
    ],
)
def test_what_is_shown(message: str, category: type[Warning], module: str, shown: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        ignore_library_warnings()
        warnings.warn_explicit(message, category, "file.py", 1, module=module)
    assert bool(caught) == shown
