"""Every configuration file under configs/ loads as its class and refuses unknown keys."""

from pathlib import Path

import pytest

import configs
from configs.errors import ConfigError
from data_pipeline.prepare import CorpusConfig
from evaluation.config import EvaluationConfig
from pretrain.config import RunConfig

FOLDER = Path(configs.__file__).parent
KINDS = {"corpus": CorpusConfig, "pretrain": RunConfig, "evaluation": EvaluationConfig}
"""Folder -> class of its files."""
SHIPPED = sorted(FOLDER.rglob("*.toml"))


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def test_each_folder_has_files() -> None:
    assert {path.parent.name for path in SHIPPED} == set(KINDS)


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_it_loads_and_dumps(path: Path) -> None:
    kind = KINDS[path.parent.name]
    config = configs.load(path, kind)
    assert configs.parse(configs.dump(config), kind, "dump") == config


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_it_begins_with_a_comment(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_an_unknown_key_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        configs.load(path, KINDS[path.parent.name], ["colour=red"])
