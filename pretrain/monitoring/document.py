"""Parts of a page for a browser and for paper, which needs no network: the whole, a section, a table."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """Return a page with the style sheet and the script of charts in it.

    Args:
        title: of the window.
        parts: HTML.
        style: rules in addition to those of ``page.css``.
    """
    shared, script = ((FOLDER / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{shared}{style}</style></head>\n<body>"
        f"{''.join(parts)}\n<script>{script}</script></body></html>\n"
    )


def section(title: str, body: str) -> str:
    """Return HTML below a heading."""
    return f"<h2>{escape(title)}</h2>{body}"


def table(
    rows: Sequence[Sequence[str]], *, has_head: bool = True, head_classes: Sequence[str] = (), classes: str = ""
) -> str:
    """Return a table of texts.

    Args:
        has_head: the first row is the head.
        head_classes: classes of the cells of the head, one each; empty: none.
        classes: of the table.
    """
    cells = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows[has_head:])
    body = "".join(f"<tr>{each}</tr>" for each in cells)
    names = [f' class="{name}"' if name else "" for name in head_classes] or [""] * len(rows[0])
    head = "".join(f"<th{name}>{escape(text)}</th>" for text, name in zip(rows[0], names, strict=True))
    head = f"<thead><tr>{head}</tr></thead>" if has_head else ""
    kind = f' class="{classes}"' if classes else ""
    return f'<div class="scroll"><table{kind}>{head}<tbody>{body}</tbody></table></div>'
