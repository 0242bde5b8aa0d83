"""The command ``sesame``: one word per stage of the road from raw text to a score."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import configs
from configs.errors import SesameError, TaskError, path_error
from launch.overrides import folder, with_output

app = typer.Typer(
    name="sesame",
    help="From raw text to a GLUE score: prepare, pretrain, evaluate. Every stage reads one TOML file and writes one "
    "folder. Start with: sesame demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one value of the file; may be repeated."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", parser=folder, help="Folder to write, instead of the one in the file."),
]


@app.command(short_help="Turn raw text into a dataset.")
def prepare(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS.toml", help="What to read and what to make of it.")],
    output: Output = None,
    overrides: Overrides = None,
) -> None:
    """Turn raw text into a dataset: a folder of shards with a manifest. Runs on CPUs only.

    Example: sesame prepare configs/corpus/demo.toml --output runs/demo/dataset
    """
    from data_pipeline.prepare import CorpusConfig, prepare

    config = configs.load(corpus, CorpusConfig, with_output(overrides, output))
    print(f"dataset: {prepare(config, config.output)}")


@app.command(short_help="Show examples as the model sees them.")
def inspect(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder written by `sesame prepare`.")],
    split: Annotated[str, typer.Option(metavar="NAME", help="train or validation.")] = "train",
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many examples.")] = 5,
    row: Annotated[
        int | None, typer.Option(metavar="N", help="Only this row, with file and place of its text.")
    ] = None,
) -> None:
    """Show a few examples as the model sees them, with masks and labels made visible.

    Example: sesame inspect runs/demo/dataset --count 3

    With --row it shows one example and the file and place that its text is from: so a bad batch is traced.
    """
    from rich.console import Console

    from data_pipeline.inspection.inspect import origins, render

    Console().print(render(dataset, split, count, row))
    if row is not None:
        print("\n".join(origins(dataset, split, row)))


@app.command(short_help="Check a dataset against its manifest.")
def verify(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder written by `sesame prepare`.")],
    card: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the card; without it DATASET/card.")
    ] = None,
) -> None:
    """Check everything that a dataset promises: checksums, counts, masking, whole words, pairs, levels.

    Example: sesame verify runs/demo/dataset

    What was found is also written as a card: a README.md with pictures, which is not part of the dataset.
    """
    from data_pipeline.inspection.card import FOLDER, write_card
    from data_pipeline.verification.verify import verify

    findings = verify(dataset)
    print("\n".join(findings), flush=True)
    print(f"card: {write_card(dataset, card or dataset / FOLDER, findings)}")


@app.command(short_help="Train a model on a dataset.")
def pretrain(
    run: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The model, the dataset and how to train.")],
    output: Output = None,
    overrides: Overrides = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Start N trainers on this machine."),
    ] = None,
) -> None:
    """Train a model on a dataset; started again with the same output folder, it goes on where it stopped.

    Example: sesame pretrain configs/pretrain/demo.toml --output runs/demo/pretrain

    Without --processes the training runs in this very process, or joins the processes of torchrun or of the
    deepspeed launcher when one of them has started it.
    """
    from launch import pretraining

    raise typer.Exit(pretraining.start(run, with_output(overrides, output), processes or 1))


@app.command(short_help="Fine-tune on tasks and write the table.")
def evaluate(
    suite: Annotated[Path, typer.Argument(metavar="SUITE.toml", help="Which tasks, seeds and settings.")],
    checkpoint: Annotated[Path, typer.Option(metavar="DIR", help="A checkpoint or a run written by pretrain.")],
    data_dir: Annotated[Path, typer.Option(metavar="DIR", help="The tasks in GLUE's layout: DIR/CoLA/train.tsv ...")],
    output: Output = None,
    overrides: Overrides = None,
) -> None:
    """Fine-tune a checkpoint, and the same model from random weights, on each task; write the table.

    Example: sesame evaluate configs/evaluation/glue.toml --checkpoint runs/demo/pretrain --data-dir glue
    """
    from evaluation.config import EvaluationConfig
    from evaluation.evaluate import evaluate

    config = configs.load(suite, EvaluationConfig, overrides or ())
    evaluate(config, checkpoint, data_dir, output or Path("runs") / suite.stem)


@app.command(short_help="Write a checkpoint for transformers.")
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint or a run written by pretrain.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the model folder is written.")],
) -> None:
    """Write a checkpoint as a model folder that Hugging Face transformers loads: config, safetensors, tokenizer files.

    Example: sesame export runs/small/bert runs/small/bert-model

    What transformers has no class for is refused, with the setting that is in the way.
    """
    from pretrain.huggingface.to_hf import export

    written = export(checkpoint, directory)
    print("\n".join((f"model: {written.folder} ({written.architecture})", *written.notes)))


@app.command("import", short_help="Read a model of transformers.")
def import_model(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder: config.json and safetensors.")],
    output: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Where the checkpoint is written.")],
) -> None:
    """Read a model folder of Hugging Face transformers as a checkpoint, to be evaluated or trained further.

    Example: sesame import runs/small/bert-model runs/small/bert-again

    To train it further, name it as initial_checkpoint in a run, and prepare the text with its tokenizer.model.
    """
    from pretrain.huggingface.from_hf import import_model

    written = import_model(directory, output)
    heads = ", ".join(written.objectives) or "no objective"
    print("\n".join((f"checkpoint: {written.folder} (family {written.family}, with {heads})", *written.notes)))


@app.command(short_help="Make small tasks from held-out documents.")
def probe_tasks(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder written by `sesame prepare`.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the task folders are written.")],
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the choice of sentences.")] = 1,
) -> None:
    """Make small tasks in GLUE's layout from the documents that a dataset holds out.

    Example: sesame probe-tasks runs/demo/dataset runs/demo/tasks
    """
    from evaluation.tasks.probe import write_tasks

    write_tasks(dataset, directory, seed)
    print(f"tasks: {directory}")


@app.command(short_help="Download GLUE in its official layout.")
def fetch_glue(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the task folders are written.")],
) -> None:
    """Download the GLUE tasks from the Hugging Face hub, in the layout that evaluate reads.

    Example: sesame fetch-glue glue

    It needs a network and the package huggingface_hub.
    """
    try:
        from evaluation.fetch import fetch
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise TaskError(
            "fetch-glue needs the package huggingface_hub; install it with: pip install 'sesame[hub]'"
        ) from None

    print(f"tasks: {fetch(directory)}")


@app.command("compile", short_help="Compile ahead what prepare needs.")
def precompile() -> None:
    """Compile the loops that prepare text for this processor, so that no run has to do it.

    Example: sesame compile

    `make` and the images do this. Without it the first run compiles what it needs and keeps it.
    """
    from data_pipeline.precompile import precompile

    print(f"compiled loops: {precompile()}")


@app.command(short_help="Submit stages to Slurm.")
def submit(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.toml...", help="A corpus, a run, a suite.")],
    time: Annotated[str, typer.Option("--time", metavar="T", help="Time of each job: minutes, HH:MM:SS or D-HH:MM.")],
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Machines of each job; a suite takes one.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, metavar="G", help="GPUs on each machine.")] = 0,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trainers on each machine; otherwise one for each GPU.")
    ] = None,
    partition: Annotated[str | None, typer.Option(metavar="P", help="Instead of the cluster file's.")] = None,
    account: Annotated[str | None, typer.Option(metavar="A", help="Instead of the cluster file's.")] = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="CLUSTER.toml", help="The habits of the cluster; see docs/clusters.md.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What a suite evaluates, if no run comes before it.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="The tasks of a suite.")] = None,
    output: Output = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scripts and submit nothing.")] = False,
) -> None:
    """Submit stages to Slurm: each file is a job, which starts when the one before it has succeeded.

    Example: sesame submit configs/pretrain/demo.toml --nodes 2 --gpus-per-node 8 --time 12:00:00 --dry-run

    Jobs stop before their time ends, write a checkpoint and are requeued until they are finished.
    """
    from launch import submit as slurm

    habits = configs.load(cluster, slurm.ClusterConfig, ()) if cluster else slurm.ClusterConfig()
    chosen = {name: value for name, value in (("partition", partition), ("account", account)) if value is not None}
    allocation = slurm.Allocation(nodes, gpus_per_node, time)
    chain = slurm.jobs(files, with_output(overrides, output), processes or gpus_per_node or 1, checkpoint, data_dir)
    lines = slurm.submit(chain, allocation, habits.model_copy(update=chosen), dry_run=dry_run)
    print("\n".join(lines))


@app.command(short_help="Walk the whole road in a few minutes.")
def demo(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that the demo writes.")] = Path(
        "runs/demo"
    ),
    glue: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Fine-tune on the real GLUE in this folder instead.")
    ] = None,
) -> None:
    """Walk the whole road in a few minutes: prepare, pretrain, fine-tune, and show the table.

    Example: sesame demo
    """
    from launch.demo import walk

    raise typer.Exit(walk(output, glue))


def main() -> None:
    """Entry point: what a person can mend is one sentence and exit code 2, anything else its traceback."""
    try:
        app()
    except SesameError as error:
        print(f"sesame: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if (known := path_error(error)) is None:
            raise
        print(f"sesame: {known}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("sesame: interrupted; the same command goes on from what is complete", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
