"""Print what pip installs in an image, from pyproject.toml:

    python3 docker/requirements.py data EXTRA...     what `sesame prepare` and the tools around it import
    python3 docker/requirements.py train EXTRA...    everything

Needs Python's own library only, because it runs before anything is installed.
"""

import re
import sys
import tomllib
from pathlib import Path

TRAINING = ("deepspeed", "megatron-core", "safetensors", "scikit-learn", "tensorboard", "torch")
"""What only pretrain and evaluation import; the image for data is small without it."""


def name(requirement: str) -> str:
    """The name of a requirement, without its version."""
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]


def requirements(image: str, extras: list[str], project: dict) -> list[str]:
    """The requirements of an image.

    Args:
        image: "data" or "train".
        extras: names of optional dependencies.
        project: the table [project] of pyproject.toml.
    """
    left_out = TRAINING if image == "data" else ()
    always = [each for each in project["dependencies"] if name(each) not in left_out]
    return [*always, *(each for extra in extras for each in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    print(
        *requirements(sys.argv[1], sys.argv[2:], tomllib.loads(Path("pyproject.toml").read_text())["project"]), sep="\n"
    )
