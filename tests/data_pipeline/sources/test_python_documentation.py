"""The documentation of the Python installation as a corpus."""

import argparse
import ast
import functools
import importlib
import textwrap
from pathlib import Path

import pytest

from sesame.data_pipeline.sources import python_documentation

MODULE = '''
"""The module does one thing, and it does that thing well.

Parameters
----------
name : str
    The name of the thing that is to be done by this module.

    >>> done("x")
    True

+-----+-----+
| a   | b   |
+-----+-----+
"""

def first():
    """The first function calls ``second`` as often as it can.

    :param count: How many times the other function is to be called.
    """

    class Inner:
        """This class is inside of the function and is found as well."""

raise SystemExit("it was imported")
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for folder in ("pkg", "pkg/tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text(MODULE)
    (tmp_path / "pkg" / "broken.py").write_text('"""Never closed')
    (tmp_path / "pkg" / "latin.txt").write_bytes(b"The caf\xe9 is not in UTF-8, and is not a part of the corpus.")
    (tmp_path / "pkg" / "readme.md").write_text("# Title\n\nThis is a text that explains what the package is for.\n")
    return tmp_path / "pkg"


def test_prose_is_kept_and_code_removed(package: Path) -> None:
    found = list(python_documentation.documents("lib/pkg", python_documentation._files(package)))
    assert [document.source for document in found] == ["lib/pkg/a.py", "lib/pkg/readme.md"]
    assert found[0].text.split("\n\n") == [
        "The module does one thing, and it does that thing well.",
        "The name of the thing that is to be done by this module.",
        "The first function calls second as often as it can.",
        "How many times the other function is to be called.",
        "This class is inside of the function and is found as well.",
    ]
    assert found[1].text == "This is a text that explains what the package is for."


def test_other_languages_and_lists_of_names_are_not_english_prose() -> None:
    text = """
        Dies ist ein deutscher Satz, und er geh\u00f6rt nicht in die Sammlung.

        alpha, beta, gamma, delta, epsilon, zeta, eta, theta

        x = compute(y) + 3 * z is what the code of this function does
    """
    assert list(python_documentation.prose(textwrap.dedent(text))) == []


def test_this_installation_has_much_text_in_a_fixed_order() -> None:
    packages = python_documentation.packages()
    assert packages == python_documentation.packages()
    assert len(packages) > 100
    assert not [name for name, _ in packages if "sesame" in name]
    name, files = next(each for each in packages if each[0].endswith("/email"))
    found = list(python_documentation.documents(name, files))
    assert sum(len(document.text) for document in found) > 10_000
    assert any("message" in document.text for document in found)


HIDDEN = '''
"""The first line of this text looks like code.

def example():
    """


if True:
    def chosen():
        """The branch that is looked into has a docstring."""
else:
    def other():
        """The branch that is not looked into has one as well."""

class One(
    object
): "A docstring of a single line, in single quotes."

class Two:
    # This comment is before the docstring of the class.
    \'\'\'A docstring
def not_a_definition(): of two lines.\'\'\'

    def first(self): return """no docstring"""

    @property
    async def second(self):
        (r"An inner docstring in "
         "brackets.")

        def inner():
            "This one is inside of a method."

    third = """neither
class NotAClass:
    \'\'\'Not a docstring at all.\'\'\'
    """

"This string follows a class and is no docstring."
def last(): u\'\'\'The last one\'\'\'; """is followed by a string."""
'''


def test_docstrings_are_those_of_the_whole_syntax_tree() -> None:
    """Files are parsed in pieces, to save time."""
    misleading = ("def example", "def not_a_definition", "class NotAClass")
    plain = functools.reduce(lambda text, line: text.replace(f"\n{line}", f"\n    {line}"), misleading, HIDDEN)
    # One misleading line at a time, because any of them makes the whole file be parsed.
    sources = [HIDDEN, plain, *(plain.replace(f"\n    {line}", f"\n{line}") for line in misleading)]
    for module in (ast, textwrap, importlib, argparse):
        sources.append(Path(str(module.__file__)).read_text(encoding="utf-8"))
    for source in sources:
        whole = docstrings([ast.parse(source)])
        assert docstrings(python_documentation._parse(source)) == whole
        assert len(whole) > 4


def docstrings(trees: list[ast.Module]) -> list[str]:
    found = [ast.get_docstring(node, clean=False) for tree in trees for node in python_documentation._definitions(tree)]
    return [text for text in found if text]
