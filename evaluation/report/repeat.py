"""Everything that is needed to repeat an evaluation: the command, the settings as a file, and the data's checksums."""

from collections.abc import Iterable
from pathlib import Path

from sesame import configs
from sesame.configs.storage import digest, write_text
from sesame.configs.toml_text import to_toml
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.reading.rows import stored
from sesame.evaluation.tasks.task import Task

NAME = "evaluation.toml"


def write_settings(output: Path, config: EvaluationConfig, checkpoint: Path, data_dir: Path) -> str:
    """Write the resolved settings and folders, with which ``sesame evaluate`` repeats the evaluation.

    Args:
        checkpoint: that was scored, not the folder of its run, where a newer one may be.

    Returns:
        The text of the file.
    """
    # Absolute, because the file may be used from any folder.
    folders = {"checkpoint": checkpoint, "data_dir": data_dir, "output": output}
    absolute = {key: folder.absolute() for key, folder in folders.items()}
    settings = to_toml(configs.dump(config.model_copy(update=absolute)))
    text = f"# Settings of this evaluation: sesame evaluate {NAME}\n{settings}"
    write_text(output / NAME, text)
    return text


def checksums(tasks: Iterable[Task], data_dir: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the tasks that is there, by its path below the data directory."""
    names = dict.fromkeys(name for task in tasks for table in task.tables for name in table.files)
    paths = {name: stored(data_dir / name) for name in names}
    return {name: digest(path) for name, path in paths.items() if path.is_file()}
