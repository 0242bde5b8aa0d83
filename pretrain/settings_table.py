"""Table of all settings of a run: ``python -m sesame.pretrain.settings_table > docs/resume.md``."""

from collections.abc import Iterator

from pydantic.fields import FieldInfo

from sesame.configs.kinds import fields, kind_of
from sesame.pretrain.config import RunConfig
from sesame.pretrain.models import FAMILIES

HEAD = """\
# Which settings may change when a run is resumed

A run that finds a checkpoint in its output folder resumes from it and compares its settings with the checkpoint's.
`python -m sesame.pretrain.settings_table` generates this page from the configuration classes.

- **same**: must be the same. A difference is refused, unless `resume.accept` names the setting, as in
  `--set 'resume.accept=["data.global_batch"]'`. To change the model or the objectives, start a new run in another
  folder with `initial_checkpoint`.
- **may change**: the run prints the difference in one line.
- **derived**: follows from the command or the machine, and is not compared.

Every change is recorded under `changes` in later checkpoints. `data.dataset` is the same if its rows are the same,
wherever the folder is; another dataset is read from its first row. The position in the data is counted in rows, so a
batch of another size neither skips nor repeats a row.

| setting | kind |
|---|---|
"""


def all_settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield (dotted key, field) of every setting, those of every family included."""
    for key, field in fields(RunConfig):
        if not key.startswith("model."):
            yield key, field
    for family in FAMILIES.values():
        yield from fields(family.config, "model.")


def table() -> str:
    """Return the page."""
    kinds: dict[str, list[str]] = {}
    for key, field in all_settings():
        kind = kind_of(field)
        name = kind.value if kind else "missing: add it"
        if name not in kinds.setdefault(key, []):
            kinds[key].append(name)
    return HEAD + "".join(f"| `{key}` | {' or '.join(names)} |\n" for key, names in kinds.items())


if __name__ == "__main__":
    print(table(), end="")
