"""Show rows of a dataset: masks, replacements and labels, with or without colours."""

from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.provenance import places
from sesame.data_pipeline.dataset.shards import Split, open_dataset
from sesame.data_pipeline.ragged import Columns, Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

PAIR_LABELS: dict[str, tuple[str, str]] = {
    "next_sentence": ("B follows A", "B is from another document"),
    "sentence_order": ("A and B are in order", "A and B are swapped"),
}
"""Meaning of the labels 0 and 1, by kind of segments."""

LEGENDS = {
    "mask_positions": "[MASK→word] masked   shown→word replaced at random   =word= predicted, but not changed",
    "target_tokens": "<extra_id_0> stands for a masked span; the target has each span after its sentinel",
}
"""Explanation of the notation, by the column that it shows."""


def render(dataset: str | Path, split: str, count: int, row: int | None = None) -> RenderableType:
    """Return the first ``count`` rows of a split, or only ``row``, for rich to print.

    Raises:
        DatasetError: no such dataset, split or row, or the split has no rows.
    """
    opened = open_dataset(dataset, verify=False)
    rows = opened.split(split)
    if not rows.rows:
        raise DatasetError(f"{dataset}: the split '{split}' has no rows; name another with --split")
    tokenizer = Tokenizer.load(opened.tokenizer_path)
    numbers = np.arange(min(count, rows.rows)) if row is None else _row_number(dataset, rows, split, row)
    chosen = rows.take(numbers)
    kind = opened.manifest.recipe["segment"]["kind"]
    panels = [_panel(chosen, index, int(number), tokenizer, kind) for index, number in enumerate(numbers)]
    legend = [Text(sentence, style="dim") for column, sentence in LEGENDS.items() if column in chosen]
    return Group(*panels, *legend)


def origins(dataset: str | Path, split: str, row: int) -> list[str]:
    """Return a line with file and position of the text for each segment of a row.

    Raises:
        DatasetError: no such dataset, split or row.
    """
    opened = open_dataset(dataset, verify=False)
    columns = opened.split(split).take(_row_number(opened.path, opened.split(split), split, row))
    segments = {"A": "document", "B": "second_document"}
    numbers = {name: int(columns[column][0]) for name, column in segments.items() if column in columns}  # pyright: ignore
    document_places = places(opened, split, numbers.values())
    return [
        f"{name if len(numbers) > 1 else 'text'}: document {number}, {place}"
        for (name, number), place in zip(numbers.items(), document_places, strict=True)
    ]


def _row_number(dataset: str | Path, rows: Split, split: str, row: int) -> np.ndarray:
    if not 0 <= row < rows.rows:
        raise DatasetError(f"{dataset}: the split '{split}' has no row {row}; its rows are 0 to {rows.rows - 1}")
    return np.array([row])


def _panel(columns: Columns, row: int, number: int, tokenizer: Tokenizer, kind: str) -> Panel:
    tokens, originals = _row(columns, "tokens", row), _originals(columns, row)
    first = int(columns["first_segment_length"][row])  # pyright: ignore[reportArgumentType]
    parts = {"A": range(1, first - 1), "B": range(first, len(tokens) - 1)}
    text = Text()
    for name, positions in parts.items():
        if positions:
            text.append(f"{name}: ", style="bold")
            text.append_text(_segment(tokens, positions, originals, tokenizer))
            text.append("\n")
    predictions = len(originals)
    if "target_tokens" in columns:
        target = _row(columns, "target_tokens", row)
        predictions = len(target)
        text.append("target: ", style="bold")
        text.append_text(_segment(target, range(len(target)), {}, tokenizer))
    facts = [f"row {number}", f"{len(tokens)} tokens", f"{predictions} predictions"]
    if "pair_labels" in columns:
        label = int(columns["pair_labels"][row])  # pyright: ignore[reportArgumentType]
        facts.append(f"pair label {label}: {PAIR_LABELS[kind][label]}")
    text.rstrip()
    return Panel(text, title=Text(", ".join(facts)), title_align="left")


def _segment(tokens: np.ndarray, positions: range, originals: dict[int, int], tokenizer: Tokenizer) -> Text:
    text, plain = Text(), []

    def write_plain() -> None:
        # Together, because a character may consist of several tokens.
        written = tokenizer.running_text(plain)
        text.append(written if len(text) else written.removeprefix(" "))
        plain.clear()

    for position in positions:
        shown, original = int(tokens[position]), originals.get(position)
        if original is None and shown not in tokenizer.sentinels:
            plain.append(shown)
            continue
        write_plain()
        known = shown if original is None or shown != tokenizer.special.mask else original
        spelled = tokenizer.running_text([known])
        if len(text) and (spelled.startswith(" ") or shown in tokenizer.sentinels):
            text.append(" ")
        text.append_text(_piece(shown, original, tokenizer))
        if spelled.lstrip().endswith(" "):
            text.append(" ")
    write_plain()
    return text


def _piece(shown: int, original: int | None, tokenizer: Tokenizer) -> Text:
    def plain(token: int) -> str:
        return tokenizer.running_text([token]).strip(" ").replace("\n", "\\n")

    if original is None:
        return Text(plain(shown))
    if shown == tokenizer.special.mask:
        return Text(f"[MASK→{plain(original)}]", style="bold cyan")
    if shown == original:
        return Text(f"={plain(shown)}=", style="underline green")
    return Text(f"{plain(shown)}→{plain(original)}", style="bold red")


def _originals(columns: Columns, row: int) -> dict[int, int]:
    """Position -> original id of each predicted token of a row."""
    if "mask_positions" not in columns:
        return {}
    positions, labels = _row(columns, "mask_positions", row), _row(columns, "mask_labels", row)
    return dict(zip(positions.tolist(), labels.tolist(), strict=True))


def _row(columns: Columns, name: str, row: int) -> np.ndarray:
    column = columns[name]
    assert isinstance(column, Ragged)
    return column.values[column.offsets[row] : column.offsets[row + 1]]
