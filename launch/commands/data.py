"""Commands for datasets, tasks and configuration files."""

from pathlib import Path
from typing import Annotated

import typer

from sesame.configs.shipped import descriptions


def inspect(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder written by `sesame prepare`.")],
    split: Annotated[str, typer.Option(metavar="NAME", help="train or validation.")] = "train",
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Number of examples.")] = 5,
    row: Annotated[
        int | None, typer.Option(metavar="N", help="Show only this row, with the source of its text.")
    ] = None,
) -> None:
    """Show a few examples as the model sees them, with their masks and labels.

    Example: sesame inspect runs/demo/dataset --count 3

    With --row it shows one example, and the file and position of its source text.
    """
    from rich.console import Console

    from sesame.data_pipeline.inspection.inspect import origins, render

    Console().print(render(dataset, split, count, row))
    if row is not None:
        print("\n".join(origins(dataset, split, row)))


def verify(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder written by `sesame prepare`.")],
    card: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the dataset card; default: DATASET/card.")
    ] = None,
) -> None:
    """Check a dataset against its manifest: checksums, counts, masking, whole words, pairs, unigram baseline.

    Example: sesame verify runs/demo/dataset

    The findings are also written as a dataset card: a README.md with plots, which is not part of the dataset.
    """
    from sesame.data_pipeline.inspection.card import FOLDER, write_card
    from sesame.data_pipeline.verification.verify import verify

    findings = verify(dataset)
    print("\n".join(findings), flush=True)
    print(f"card: {write_card(dataset, card or dataset / FOLDER, findings)}")


def probe_tasks(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder written by `sesame prepare`.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of the tasks.")],
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the sentences and their changes.")] = 1,
) -> None:
    """Make small tasks in GLUE's layout from the validation documents of a dataset.

    Example: sesame probe-tasks runs/demo/dataset runs/demo/tasks
    """
    from sesame.evaluation.probe_data import write_tasks

    write_tasks(dataset, directory, seed)
    print(f"tasks: {directory}")


def fetch_glue(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of the tasks.")],
) -> None:
    """Download the GLUE tasks from the Hugging Face hub, in the layout that evaluate reads.

    Example: sesame fetch-glue glue

    Requires network access and the package huggingface_hub (pip install 'sesame[hub]').
    """
    from sesame.evaluation.fetch import fetch

    print(f"tasks: {fetch(directory)}")


def list_configs() -> None:
    """List the shipped configuration files. Each can be given by its name, from any folder.

    Example: sesame configs
    """
    for name, description in descriptions():
        print(f"{name:<34}{description}")


def precompile() -> None:
    """Compile the loops of prepare and pretrain for this processor, so that the first run does not have to.

    Example: sesame compile

    `make` and the Docker images do this. Otherwise the first run compiles what it needs and caches it.
    """
    from sesame.data_pipeline.precompile import precompile
    from sesame.pretrain.compiled import precompile as training

    folder = precompile()
    training.precompile()
    print(f"compiled loops: {folder}")
