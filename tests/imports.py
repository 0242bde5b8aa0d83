"""The imports of the project's files, read with ``ast``.

Modules are named by their folders here, without the parent package ``sesame``.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("configs", "data_pipeline", "pretrain", "evaluation", "launch")
"""In order of dependency: each may import itself and those before it."""


class Import(NamedTuple):
    """One imported module, and where."""

    path: str
    line: int
    module: str
    lazy: bool
    """Inside a function, so that it costs nothing until that is called."""

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def matches(self, *modules: str) -> bool:
        return any(self.module == module or self.module.startswith(f"{module}.") for module in modules)


def sources() -> list[Path]:
    """Every Python file of the rooms, and the Python half of the launch script."""
    found = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
    return [*found, REPOSITORY / "launch" / "pretrain.sh"]


def imports_of(text: str, path: str) -> list[Import]:
    return list(_walk(ast.parse(text), path, lazy=False))


def _walk(node: ast.AST, path: str, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(path, child.lineno, alias.name.removeprefix("sesame."), lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, path).removeprefix("sesame.")
            yield Import(path, child.lineno, base, lazy)
            yield from (Import(path, child.lineno, f"{base}.{alias.name}", lazy) for alias in child.names)
        else:
            yield from _walk(
                child, path, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            )


def _absolute(node: ast.ImportFrom, path: str) -> str:
    package = Path(path).parent.parts
    base = package[: len(package) - node.level + 1] if node.level else ()
    return ".".join((*base, *([node.module] if node.module else ())))
