"""The dataset card: tables and charts of a dataset, made from its manifest. It is not a part of the dataset."""

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sesame.configs.errors import DatasetError
from sesame.configs.storage import atomic_file, write_text
from sesame.data_pipeline.dataset.manifest import Manifest, read_manifest
from sesame.data_pipeline.dataset.statistics import MEAN_SPAN_LENGTH

MAXIMUM_SOURCES = 50
FOLDER = "card"
"""In the dataset folder, without a checksum: readers open only the files that the manifest names."""


def write_card(dataset: Path, folder: Path, findings: Sequence[str]) -> Path:
    """Write ``README.md`` and its charts (PNG) into ``folder``, in place of older ones.

    Args:
        findings: lines of ``sesame verify``.

    Raises:
        DatasetError: no such dataset, or the folder cannot be written.
    """
    manifest = read_manifest(dataset)
    charts = {name: draw for name, draw in CHARTS.items() if _values(manifest, name)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in charts.items():
            with atomic_file(folder / f"{name}.png", durable=False) as file:
                file.write(_chart(draw, _values(manifest, name)))
        write_text(folder / "README.md", _text(dataset, manifest, findings, list(charts)), durable=False)
    except OSError as error:
        raise DatasetError(
            f"{folder}: the card cannot be written ({error.strerror}); name another folder with --card DIR"
        ) from None
    return folder


def _text(dataset: Path, manifest: Manifest, findings: Sequence[str], charts: Sequence[str]) -> str:
    splits = [[name, f"{split.rows:,}", f"{split.tokens:,}", f"{split.predictions:,}", str(len(split.shards))]
              for name, split in manifest.splits.items()]  # fmt: skip
    sources = [[_code(each["name"]), f"{each['bytes']:,}", f"{each['characters_kept']:,}", _code(each["sha256"][:16])]
               for each in manifest.sources[:MAXIMUM_SOURCES]]  # fmt: skip
    more = len(manifest.sources) - len(sources)
    lines = [
        f"# Dataset `{dataset.resolve().name}`",
        "",
        f"Written by `sesame verify` from the manifest {manifest.manifest_sha256[:16]}; may be removed and made again.",
        "",
        "## Rows",
        "",
        *_table(["split", "rows", "tokens", "predictions", "shards"], splits),
        "",
        f"Seed {manifest.seed}, code {manifest.code_version}, format {manifest.format_version}; "
        f"{manifest.tokenizer.vocabulary_size:,} pieces; columns: {', '.join(manifest.columns)}.",
        "",
        *(f"![{name}]({name}.png)" for name in charts),
        "",
        "## What was verified",
        "",
        *(f"- {finding}" for finding in findings),
        "",
        "## Documents",
        "",
        *_table(["outcome", "documents"], [[outcome, f"{count:,}"] for outcome, count in manifest.documents.items()]),
        "",
        "## Sources",
        "",
        *_table(["source", "bytes", "characters kept", "SHA-256"], sources),
        *(["", f"And {more:,} more; `manifest.json` has them all."] if more > 0 else []),
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(manifest.recipe, indent=1, ensure_ascii=False),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _values(manifest: Manifest, name: str) -> dict[str, float]:
    """The values of a chart, by label."""
    values: dict[str, Mapping[str, Any]] = {
        "lengths": manifest.lengths,
        "documents": manifest.documents_by_outcome,
        "masking": {
            label.replace("_", " "): 100 * share
            for label, share in manifest.masking.items()
            if label != MEAN_SPAN_LENGTH
        },
    }
    return dict(values[name])


def _lengths(axes: Axes, values: dict[str, float]) -> None:
    axes.bar(list(values), list(values.values()), width=0.9)
    axes.tick_params(axis="x", rotation=60)
    axes.set_xlabel("tokens of a training sequence")
    axes.set_ylabel("sequences")


def _bars(form: str, label: str) -> Callable[[Axes, dict[str, float]], None]:
    """Draw horizontal bars with their values beside them."""

    def draw(axes: Axes, values: dict[str, float]) -> None:
        bars = axes.barh(list(values), list(values.values()))
        axes.bar_label(bars, [form.format(value) for value in values.values()], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(label)

    return draw


CHARTS: dict[str, Callable[[Axes, dict[str, float]], None]] = {
    "lengths": _lengths,
    "documents": _bars(" {:,.0f}", "documents by outcome"),
    "masking": _bars(" {:.2f} %", "% of the training tokens, and of those that are predicted"),
}


def _chart(draw: Callable[[Axes, dict[str, float]], None], values: dict[str, float]) -> bytes:
    figure = Figure(figsize=(6.4, max(2.6, 1.2 + 0.3 * min(len(values), 10))), dpi=120, layout="constrained")
    axes = figure.subplots()
    draw(axes, values)
    axes.spines[["top", "right"]].set_visible(False)
    image = BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _code(text: str) -> str:
    return f"`{text.replace('|', '/').replace('`', '')}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|---|" + "---:|" * (len(head) - 1), *lines[1:]]
