"""Every shipped configuration file loads as its class, and unknown keys are errors."""

from pathlib import Path

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.shipped import find
from sesame.data_pipeline.prepare import CorpusConfig
from sesame.evaluation.config import EvaluationConfig
from sesame.pretrain.config import RunConfig

FOLDER = Path(configs.__file__).parent
KINDS = {"corpus": CorpusConfig, "pretrain": RunConfig, "evaluation": EvaluationConfig}
"""Configuration class by folder."""
SHIPPED = sorted(FOLDER.rglob("*.toml"))


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def test_each_folder_has_files() -> None:
    assert {path.parent.name for path in SHIPPED} == set(KINDS)


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_file_is_restored_from_its_dump(path: Path) -> None:
    kind = KINDS[path.parent.name]
    config = configs.load(path, kind)
    assert configs.parse(configs.dump(config), kind, "dump") == config


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_file_begins_with_a_comment(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_an_unknown_key_is_an_error(path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        configs.load(path, KINDS[path.parent.name], ["colour=red"])


def test_a_name_of_several_files_is_not_guessed() -> None:
    with pytest.raises(ConfigError, match="several shipped files have this name; give one of corpus/demo"):
        find("demo")
    assert find("glue").parent.name == "evaluation"
    assert find("demo", "pretrain").parent.name == "pretrain"
