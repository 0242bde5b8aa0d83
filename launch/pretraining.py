"""Start a pretraining run: in this process, or in several with ``pretrain.sh`` and DeepSpeed's launcher."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import configs
from configs.errors import SesameError, path_error
from launch.overrides import with_folders

SCRIPT = Path(__file__).with_name("pretrain.sh")


def train_in_process(run: Path, overrides: Sequence[str]) -> None:
    """Train in this process, which is one of several if a launcher has set RANK and WORLD_SIZE.

    Raises:
        SesameError: the configuration, the dataset or a checkpoint does not fit.
    """
    from pretrain.config import RunConfig
    from pretrain.train import train

    checkpoint = train(configs.load(run, RunConfig, overrides))
    if os.environ.get("RANK", "0") == "0":
        print(f"checkpoint: {checkpoint}")


def start_processes(run: Path, overrides: Sequence[str], processes: int) -> NoReturn:
    """Replace this process by ``processes`` trainers on this machine.

    The configuration is checked first, so that an error in it is reported once.

    Raises:
        ConfigError: the configuration is wrong.
    """
    from pretrain.config import RunConfig

    configs.load(run, RunConfig, overrides)
    options = [word for override in overrides for word in ("--set", override)]
    os.environ["SESAME_PYTHON"] = sys.executable
    sys.stdout.flush()
    os.execvp("bash", ["bash", str(SCRIPT), "--processes", str(processes), "--config", str(run), *options])


def main() -> None:
    """Entry point of each process of ``pretrain.sh``."""
    parser = argparse.ArgumentParser(prog="launch/pretrain.sh", description="One process of a pretraining run.")
    parser.add_argument("--config", required=True, type=Path, metavar="RUN.toml")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--output", metavar="DIR", help="output folder; overrides the one in the file")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        train_in_process(arguments.config, with_folders(arguments.overrides, output=arguments.output))
    except (SesameError, OSError) as error:
        known = path_error(error) if isinstance(error, OSError) else error
        if known is None:
            raise
        print(f"{_program_name()}: {known}", file=sys.stderr)
        sys.exit(2)


def _program_name() -> str:
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    return f"sesame (process {os.environ['RANK']} of {world_size})" if world_size > 1 else "sesame"
