"""The table of all settings of a run with their kinds: ``python -m pretrain.settings_table > docs/resume.md``."""

from collections.abc import Iterator

from pydantic.fields import FieldInfo

from configs.kinds import fields, kind_of
from pretrain.config import RunConfig
from pretrain.models import FAMILIES

HEAD = """\
# What may change when a run goes on

A run that finds a checkpoint in its output folder goes on from it, and compares its settings with the checkpoint's.
This table is made from the classes by `python -m pretrain.settings_table`.

- **same**: must be the same. A difference is refused, unless `resume.accept` names the setting, as in
  `--set 'resume.accept=["data.global_batch"]'`. To change the model or the objectives, begin a new run in another
  folder with `initial_checkpoint`.
- **may change**: the run says what is different in one line.
- **derived**: follows from the command or the machine, and is not compared.

Every change is written down under `changes` in the checkpoints that follow. `data.dataset` is the same if its rows
are, wherever it lies; another dataset is read from its first row. The position in the data is counted in rows, so a
batch of another size neither skips nor repeats one.

| setting | kind |
|---|---|
"""


def all_settings() -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of every setting of every family."""
    for key, field in fields(RunConfig):
        if not key.startswith("model."):
            yield key, field
    for family in FAMILIES.values():
        yield from fields(family.config, "model.")


def table() -> str:
    """The document."""
    words: dict[str, list[str]] = {}
    for key, field in all_settings():
        kind = kind_of(field)
        word = kind.value if kind else "none: give it one"
        if word not in words.setdefault(key, []):
            words[key].append(word)
    return HEAD + "".join(f"| `{key}` | {' or '.join(found)} |\n" for key, found in words.items())


if __name__ == "__main__":
    print(table(), end="")
