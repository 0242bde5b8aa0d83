"""No module imports itself through others."""

from tests.imports import REPOSITORY, imports_of, sources


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or through others (Tarjan 1972)."""
    found: list[list[str]] = []
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_no_module_imports_itself_through_others() -> None:
    paths = [path.relative_to(REPOSITORY).as_posix() for path in sources() if path.suffix == ".py"]
    modules = {_module(path) for path in paths}
    edges: dict[str, set[str]] = {}
    for path in paths:
        found = {each.module for each in imports_of((REPOSITORY / path).read_text(encoding="utf-8"), path)} & modules
        # `from package import module` is also read as an import of the package.
        packages = {each for each in found if any(other.startswith(f"{each}.") for other in found)}
        edges[_module(path)] = found - packages - {_module(path)}
    assert not cycles(edges)


def test_a_cycle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [["b", "c"]]
    assert not cycles({"a": {"b", "c"}, "b": {"c"}})
