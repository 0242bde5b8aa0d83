"""pyproject.toml and the constraints: every import is declared, every dependency is pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("configs", "data_pipeline", "pretrain", "evaluation", "launch")
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "megatron": "megatron-core",
    "backports": "backports.zstd",
    "google": "protobuf",
}
"""Distribution by import name, where the names differ."""
STANDARD_LIBRARY = {*sys.stdlib_module_names, "compression"}
"""compression is new in Python 3.14; older versions use a backport."""


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def normalized_name(requirement: str) -> str:
    """The normalized name of the distribution."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]).lower()


def third_party_imports(packages: tuple[str, ...] = ROOMS) -> Iterator[str]:
    for package in packages:
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names = [node.module]
                tops = {name.partition(".")[0] for name in names}
                yield from tops - STANDARD_LIBRARY - set(ROOMS)


def test_every_import_is_declared_and_every_declaration_is_used() -> None:
    declared = {normalized_name(each) for each in project()["project"]["dependencies"]}
    extras = {
        normalized_name(each)
        for name, group in project()["project"]["optional-dependencies"].items()
        if name != "dev"
        for each in group
    }
    imported = {normalized_name(DISTRIBUTIONS.get(name, name)) for name in third_party_imports()}
    assert imported - declared - extras - {"sesame"} == set()
    assert declared - imported == set()


def test_every_requirement_is_pinned_to_an_exact_version() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line) for line in lines), "name==version only"
    extras = [each for group in project()["project"]["optional-dependencies"].values() for each in group]
    wanted = {normalized_name(each) for each in [*project()["project"]["dependencies"], *extras]}
    assert wanted - {normalized_name(line) for line in lines} - {normalized_name(project()["project"]["name"])} == set()


def test_every_package_is_listed() -> None:
    packages = {
        f"sesame.{path.parent.relative_to(REPOSITORY).as_posix()}".replace("/", ".")
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*.py")
    }
    assert {"sesame", *packages} == set(project()["tool"]["setuptools"]["packages"])


def test_every_folder_is_in_the_tree_of_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    folders = {
        path.parent.relative_to(REPOSITORY).as_posix() for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")
    }
    named: set[str] = set()
    room = ""
    for indent, name in re.findall(r"^( {4}| {6})([a-z_]+)/ ", readme, re.MULTILINE):
        room = name if len(indent) == 4 else room
        named.add(name if len(indent) == 4 else f"{room}/{name}")
    assert named - {"docs", "tests", "docker", "benchmarks", "sesame"} == folders


def test_loops_are_compiled_where_sesame_is_installed() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"pip install .*-e .*\n(#.*\n)*.*sesame compile\n", text)
