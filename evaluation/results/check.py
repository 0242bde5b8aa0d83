"""Check of a submission against the official counts, indices and labels, by code of its own."""

import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sesame.configs.errors import TaskError
from sesame.configs.storage import digest_of
from sesame.configs.strict_json import unique_keys
from sesame.evaluation.tasks.suites import SUITES, Suite
from sesame.evaluation.tasks.task import Table, Task

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
)
"""What reading an archive raises that is damaged, encrypted, or packed by an unknown method."""
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


def check_submission(path: Path) -> str:
    """Check a folder or archive of predictions.

    Returns:
        A sentence about what was checked.

    Raises:
        TaskError: there is a fault; the message names the first ones.
    """
    faults = faults_of(path)
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise TaskError(f"{path}: is not a valid submission: {'; '.join(faults[:3])}{more}")
    suite = _suite(set(_contents(path)))
    assert suite is not None
    count = len(_contents(path))
    return f"{path}: a complete submission to {suite.name} with {count} files, as {suite.server} wants it"


def faults_of(path: Path) -> list[str]:
    """Return everything that is wrong with a folder or archive of predictions, a phrase each.

    Raises:
        TaskError: it is neither.
    """
    return faults_in(_contents(path))


def faults_in(contents: Mapping[str, bytes]) -> list[str]:
    """Return everything that is wrong with files of predictions, by name, a phrase each; missing files are last."""
    suite = _suite(set(contents))
    if suite is None:
        return [f"has no file of {' or '.join(SUITES)}"]
    faults = faults_within(contents, suite)
    faults += [f"{name} does not belong to {suite.name}" for name in contents if name not in suite.files]
    return faults + [f"{name} is missing" for name in suite.required if name not in contents]


def faults_within(contents: Mapping[str, bytes], suite: Suite) -> list[str]:
    """Return what is wrong with the rows of those files that belong to ``suite``, a phrase each."""
    return [
        f"{name}, {fault}"
        for name, (task, table) in suite.files.items()
        if name in contents
        for fault in _file_faults(contents[name], task, table)
    ]


def _contents(path: Path) -> dict[str, bytes]:
    """Content of each file by name; those in folders of an archive keep the folder in their names."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()}
    if path.exists() and not path.is_file():
        raise TaskError(f"{path}: is a pipe or a device; give a folder of predictions or an archive of them")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(set(names)) < len(names):
                raise TaskError(f"{path}: has a file twice; make the archive again")
            return {name: archive.read(name) for name in names}
    except FileNotFoundError:
        raise TaskError(f"{path}: no such file; give a folder of predictions or an archive of them") from None
    except DAMAGED as error:
        reason = str(error) or "it is truncated"
        raise TaskError(f"{path}: not a folder or a zip archive ({reason}); give the one that was written") from None


def _suite(names: set[str]) -> Suite | None:
    """The benchmark that most of the files are of."""
    best = max(SUITES.values(), key=lambda suite: len(names & set(suite.files)))
    return best if names & set(best.files) else None


def _file_faults(content: bytes, task: Task, table: Table) -> Iterator[str]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        yield "not UTF-8"
        return
    if "\r" in text:
        yield "has carriage returns"
        return
    lines = text.removesuffix("\n").split("\n")
    try:
        rows = list(
            _object_rows(text) if table.is_object else _json_rows(lines, table) if table.is_json else _tsv_rows(lines)
        )
    except ValueError as error:
        yield str(error)
        return
    yield from _index_faults([index for index, _ in rows], table)
    for number, (_, value) in enumerate(rows):
        if fault := _value_fault(value, task, table):
            yield f"row {number}: {fault}"
            return


def _tsv_rows(lines: list[str]) -> Iterator[tuple[str, str]]:
    if lines[0] != "index\tprediction":
        raise ValueError(f"the first line is {lines[0][:40]!r} where 'index\\tprediction' is expected")
    for number, line in enumerate(lines[1:], 2):
        index, tab, value = line.partition("\t")
        if not tab or "\t" in value:
            raise ValueError(f"line {number}: does not have two cells")
        yield index, value


def _json_rows(lines: list[str], table: Table) -> Iterator[tuple[Any, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line, object_pairs_hook=unique_keys)
            if table.is_nested:
                yield from _leaves(record, str(table.each).split(".*."), ())
            else:
                yield record[str(table.index).split(".")[-1]], record[table.answer_key]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"line {number}: not a record with an index and a label ({error})") from None


def _object_rows(text: str) -> list[tuple[str, Any]]:
    try:
        # A dictionary would keep the last of two equal indices only.
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not one JSON object from index to answer ({error})") from None
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise ValueError("not one JSON object from index to answer")
    return pairs


def _leaves(record: Any, levels: list[str], above: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    index = (*above, record["idx"])
    if not levels:
        yield index, record["label"]
        return
    entries = record
    for name in levels[0].split("."):
        entries = entries[name]
    for entry in entries:
        yield from _leaves(entry, levels[1:], index)


def _index_faults(indices: list[Any], table: Table) -> Iterator[str]:
    official, rows = table.indices, len(indices)
    if table.rows is not None and (rows < table.rows or (rows > table.rows and not official.more_rows)):
        least = "at least " if official.more_rows else ""
        yield f"has {rows} rows where the test set has {least}{table.rows}"
        return
    names = ["/".join(map(str, index)) if isinstance(index, tuple) else str(index) for index in indices]
    if len(set(names)) < rows:
        yield "has an index twice"
    elif official.sha256:
        if digest_of("".join(f"{name}\n" for name in names).encode()) != official.sha256:
            yield "its indices are not those of the test set, in the order of its file"
    elif official.pattern:
        wrong = next((name for name in names if not re.fullmatch(official.pattern, name)), None)
        if wrong is not None:
            yield f"has the index {wrong!r}, which is not of the form {official.pattern}"
    else:
        for place, name in enumerate(names):
            if name != str(official.first + place):
                yield f"row {place}: has index {name!r} where {official.first + place} is expected"
                return


def _value_fault(value: Any, task: Task, table: Table) -> str:
    if task.has_scores:
        lowest, highest = task.score_range
        if not NUMBER.fullmatch(str(value)) or not lowest <= float(value) <= highest:
            return f"{value!r} is not a number from {lowest:g} to {highest:g}"
    elif task.has_texts:
        if not isinstance(value, str):
            return f"{value!r} is not a text"
        if task.kind == "choose" and not value.strip():
            return "the answer is empty"
    elif task.kind == "choose" or table.is_nested:
        candidates = len(task.labels) or table.candidates or len(table.choices)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            return f"{value!r} is not the number of a candidate"
        if value >= candidates:
            return f"{value!r} is not one of {candidates} candidates"
    elif value not in task.labels:
        return f"{value!r} is not one of the labels {', '.join(task.labels)}"
    return ""
