"""Start a pretraining run: in this process, or in several that ``launch/processes.py`` supervises."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sesame import configs
from sesame.configs.errors import USER_ERRORS, message_of
from sesame.configs.shipped import finders
from sesame.configs.stopping import CONTINUE, Stopped, note_signals
from sesame.launch.library_warnings import ignore_library_warnings
from sesame.launch.overrides import with_folders
from sesame.launch.place import machine
from sesame.launch.processes import supervise
from sesame.launch.waiting_threads import sleep_early

SCRIPT = Path(__file__).resolve().with_name("pretrain.sh")


def start(run: Path, overrides: Sequence[str], processes: int | None) -> int:
    """Train in this process if it is alone or one of a world already, otherwise in trainers of its own.

    Args:
        processes: trainers on this machine; None: one for each GPU, or one.

    Returns:
        The exit code.

    Raises:
        SesameError: the configuration, the dataset, a checkpoint or the scheduler's variables do not fit.
    """
    if "RANK" in os.environ:
        return train(run, overrides)
    place = machine(processes)
    if place.processes * place.machines == 1:
        return train(run, overrides)
    changes = [word for override in overrides for word in ("--set", override)]
    return supervise([sys.executable, str(SCRIPT), "--config", str(run), *changes], place)


def train(run: Path, overrides: Sequence[str]) -> int:
    """Train in this process, which is one of a world if the environment says so; return the exit code.

    Raises:
        SesameError: the configuration, the dataset or a checkpoint does not fit.
    """
    request = note_signals()
    ignore_library_warnings()
    from sesame.pretrain.config import RunConfig

    # Before the engines are imported, which takes seconds.
    config = configs.load(run, RunConfig, overrides)
    from sesame.pretrain import train as pretrain

    is_rank_zero = os.environ.get("RANK", "0") == "0"
    try:
        checkpoint = pretrain.train(config, request=request)
    except Stopped as stopped:
        if is_rank_zero:
            print(f"sesame: {stopped}", flush=True)
        return CONTINUE
    if is_rank_zero:
        print(f"checkpoint: {checkpoint}")
    return 0


def main() -> None:
    """Run ``launch/pretrain.sh``."""
    parser = argparse.ArgumentParser(prog="launch/pretrain.sh", description="Pretrain a model.")
    parser.add_argument("--config", required=True, type=finders["pretrain"], metavar="RUN.toml")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--output", metavar="DIR", help="output folder; overrides the one in the file")
    parser.add_argument("--processes", type=int, metavar="N", help="trainers on this machine (default: one a GPU)")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.processes is not None and arguments.processes < 1:
        parser.error("--processes must be 1 or more")
    sleep_early()
    try:
        sys.exit(
            start(arguments.config, with_folders(arguments.overrides, output=arguments.output), arguments.processes)
        )
    except USER_ERRORS as error:
        if (message := message_of(error)) is None:
            raise
        print(f"sesame: {message}", file=sys.stderr)
        sys.exit(2)
