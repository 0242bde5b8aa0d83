"""The settings of an evaluation as a file that repeats it."""

from pathlib import Path

from sesame import configs
from sesame.configs.storage import write_text
from sesame.configs.toml_text import to_toml
from sesame.evaluation.config import EvaluationConfig

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
