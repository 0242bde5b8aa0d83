"""What the documents name exists: settings, messages, paths, links and shipped configurations."""

import ast
import os
import re
import tomllib
from collections.abc import Iterator

import pytest

from sesame import configs
from sesame.configs.kinds import fields
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.sources import SOURCES, SourceConfig
from sesame.evaluation.config import EvaluationConfig
from sesame.launch.submit import ClusterConfig
from sesame.pretrain.settings_table import all_settings
from tests import documents
from tests.documents import MEASURED, PAGES, REPOSITORY, STAGES

BASES = {
    "source": "corpus/demo.toml",
    "model": "pretrain/demo.toml",
    "suite": "evaluation/probe.toml",
    "optimizer": "pretrain/demo.toml",
    "schedule": "pretrain/demo.toml",
}
"""A section that only one kind of file has -> a file of that kind, on which a part of one is tried."""
SETTINGS = {
    *(f"{prefix}{name}" for kind, prefix in [(CorpusConfig, ""), (EvaluationConfig, ""), (SourceConfig, "source.")]
      for name, _ in fields(kind, prefix)),
    *(name for name, _ in all_settings()),
}  # fmt: skip
SECTIONS = {name.partition(".")[0] for name in SETTINGS if "." in name}
SUFFIXES = (".py", ".toml", ".json", ".md", ".arrow", ".sh", ".jsonl", ".tsv", ".png", ".html", ".Dockerfile")
TOP = ("configs", "data_pipeline", "pretrain", "evaluation", "launch", "tests", "docs", "docker", "benchmarks")
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+")


@pytest.mark.parametrize("page", PAGES)
def test_its_configuration_is_valid(page: str) -> None:
    for block in documents.blocks(page):
        if block.language == "toml":
            values = tomllib.loads(block.text)
            if "partition" in values:
                configs.parse(values, ClusterConfig, f"{page}:{block.line}")
                continue
            base = next(path for section, path in BASES.items() if section in values)
            kind = next(kind for folder, kind in STAGES.values() if path_kind(base) == folder)
            whole = tomllib.loads((REPOSITORY / "configs" / base).read_text(encoding="utf-8"))
            configs.parse({**whole, **values}, kind, f"{page}:{block.line}")


def path_kind(base: str) -> str:
    return {"corpus": "corpus", "pretrain": "run", "evaluation": "suite"}[base.partition("/")[0]]


@pytest.mark.parametrize("page", PAGES)
def test_the_settings_that_it_names_exist(page: str) -> None:
    for span in documents.code_spans(page):
        found = re.match(r"([a-z_]+\.[a-z_.]+)(?:\b|=)", span)
        if found and found[1].partition(".")[0] in SECTIONS and not span.endswith(SUFFIXES):
            assert found[1] in SETTINGS, f"{page}: `{span}`"


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", MEASURED])
def test_what_it_links_and_names_exists(page: str) -> None:
    for path, anchor in documents.links(page):
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), f"{page}: {path}"
        if anchor:
            assert anchor in documents.anchors(target.resolve().relative_to(REPOSITORY).as_posix()), f"{page}: {anchor}"
    # Not a folder of the user's, as in runs/demo/pretrain.
    for path in re.findall(rf"(?<![\w/.-])((?:{'|'.join(TOP)})/[\w./*-]+)", documents.read(page)):
        path = path.rstrip(".")
        assert PLACEHOLDER.search(path) or list(REPOSITORY.glob(path)), f"{page}: {path}"
    tracked = {path.name for top in TOP for path in (REPOSITORY / top).rglob("*")} | set(os.listdir(REPOSITORY))
    for name in (span for span in documents.code_spans(page) if re.fullmatch(r"[\w.]+\.(py|sh|Dockerfile)", span)):
        assert PLACEHOLDER.search(name) or name in tracked, f"{page}: {name}"


def test_the_readme_is_short() -> None:
    assert documents.read("README.md").count("\n") <= 150


def test_the_models_of_the_guide_are_those_that_are_shipped() -> None:
    table = set(documents.code_spans("docs/pretraining.md"))
    shipped = {path.stem for path in (REPOSITORY / "configs" / "pretrain").glob("*.toml")} - {"demo", "books"}
    assert shipped <= table
    assert {name for name in table if name.endswith("_small")} <= shipped


def test_the_sources_of_the_guide_are_those_of_the_table() -> None:
    assert set(SOURCES) <= set(documents.code_spans("docs/own_corpus.md"))


def messages() -> Iterator[str]:
    """Every text of the code, with an ellipsis in place of a value."""
    for room in ("configs", "data_pipeline", "pretrain", "evaluation", "launch"):
        for path in (REPOSITORY / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # pyright: ignore
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
    for path in (REPOSITORY / "launch" / "slurm").glob("*.sh"):
        for message in re.findall(r'\blog "([^"]*)"', path.read_text(encoding="utf-8")):
            yield re.sub(r"\$(\w+|\{[^}]*\}|\([^)]*\)|\d)", "…", message)


def test_the_messages_of_the_guide_are_those_of_the_code() -> None:
    known = set(messages())
    rows = re.findall(r"^\| `([^`]+)` \|", documents.read("docs/errors.md"), re.MULTILINE)
    assert len(rows) > 30
    patterns = {row: re.compile(".*".join(map(re.escape, row.strip("…").split("…"))), re.DOTALL) for row in rows}
    assert [row for row, pattern in patterns.items() if not any(map(pattern.search, known))] == []
