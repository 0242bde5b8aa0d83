"""The command ``sesame``: one subcommand for each stage from raw text to a GLUE score, and tools around them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sesame import configs
from sesame.configs.errors import SesameError, message_of
from sesame.configs.shipped import descriptions, find, finders
from sesame.configs.stopping import CONTINUE, Stopped, raise_signals
from sesame.launch.overrides import output_folder, with_folders

app = typer.Typer(
    name="sesame",
    help="Pretrain language models, from raw text to a GLUE score: prepare, pretrain, evaluate. Each stage reads one "
    "TOML file and writes one folder. Start with: sesame demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override one value of the file; may be repeated."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", parser=output_folder, help="Output folder; overrides the one in the file."),
]


@app.command(short_help="Prepare a dataset from raw text.")
def prepare(
    corpus: Annotated[
        Path,
        typer.Argument(
            parser=finders["corpus"], metavar="CORPUS.toml", help="Configuration: sources, tokenizer, examples."
        ),
    ],
    output: Output = None,
    overrides: Overrides = None,
) -> None:
    """Prepare a dataset from raw text: a folder of shards with a manifest. Runs on CPUs only.

    Example: sesame prepare configs/corpus/demo.toml --output runs/demo/dataset
    """
    from sesame.data_pipeline.prepare import CorpusConfig, prepare

    raise_signals()
    config = configs.load(corpus, CorpusConfig, with_folders(overrides, output=output))
    print(f"dataset: {prepare(config)}")


@app.command(short_help="Show examples of a dataset.")
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


@app.command(short_help="Check a dataset against its manifest.")
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


@app.command(short_help="Train a model on a dataset.")
def pretrain(
    run: Annotated[
        Path,
        typer.Argument(
            parser=finders["pretrain"], metavar="RUN.toml", help="Configuration: model, dataset and training."
        ),
    ],
    output: Output = None,
    overrides: Overrides = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Start N processes on this machine with DeepSpeed's launcher."),
    ] = None,
) -> None:
    """Train a model on a dataset. Run again with the same output folder, it resumes from the last checkpoint.

    Example: sesame pretrain configs/pretrain/demo.toml --output runs/demo/pretrain

    Without --processes the training runs in this process, which may be one of those that torchrun or the deepspeed
    launcher has started.
    """
    from sesame.launch import pretraining

    raise typer.Exit(pretraining.start(run, with_folders(overrides, output=output), processes or 1))


@app.command(short_help="Fine-tune a checkpoint on tasks and report its scores.")
def evaluate(
    suite: Annotated[
        Path,
        typer.Argument(
            parser=finders["evaluation"], metavar="SUITE.toml", help="Configuration: tasks, seeds and settings."
        ),
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A checkpoint, or the output folder of pretrain; overrides the one in the file."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Task files in GLUE's layout, DIR/CoLA/train.tsv; overrides the one in the file."
        ),
    ] = None,
    output: Output = None,
    overrides: Overrides = None,
) -> None:
    """Fine-tune a checkpoint, and the same model from random weights, on each task; write a report of the scores.

    Example: sesame evaluate configs/evaluation/glue.toml --checkpoint runs/demo/pretrain --data-dir glue

    Without an output folder the report is written to runs/SUITE.
    """
    from sesame.evaluation.config import EvaluationConfig
    from sesame.evaluation.evaluate import evaluate

    overrides = with_folders(overrides, checkpoint=checkpoint, data_dir=data_dir, output=output)
    raise_signals()
    config = configs.load(suite, EvaluationConfig, overrides)
    evaluate(config, config.output or Path("runs") / suite.stem)


@app.command(short_help="Convert a checkpoint to a transformers model.")
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the output folder of pretrain.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of the model.")],
) -> None:
    """Convert a checkpoint to a model folder of Hugging Face transformers: config, safetensors, tokenizer files.

    Example: sesame export runs/small/bert runs/small/bert-model

    A model without a class in transformers is an error that names the unsupported setting.
    """
    from sesame.pretrain.huggingface.to_hf import export

    written = export(checkpoint, directory)
    print("\n".join((f"model: {written.folder} ({written.architecture})", *written.notes)))


@app.command("import", short_help="Convert a transformers model to a checkpoint.")
def import_model(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Model folder: config.json and safetensors.")],
    output: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Output folder of the checkpoint.")],
) -> None:
    """Convert a model folder of Hugging Face transformers to a checkpoint, for evaluation or further training.

    Example: sesame import runs/small/bert-model runs/small/bert-again

    To train it further, set it as initial_checkpoint of a run, and prepare the dataset with its tokenizer.model.
    """
    from sesame.pretrain.huggingface.from_hf import import_model

    written = import_model(directory, output)
    heads = ", ".join(written.objectives) or "no objective"
    print("\n".join((f"checkpoint: {written.folder} (family {written.family}, with {heads})", *written.notes)))


@app.command(short_help="Make small tasks from validation documents.")
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


@app.command(short_help="Download GLUE in its official layout.")
def fetch_glue(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of the tasks.")],
) -> None:
    """Download the GLUE tasks from the Hugging Face hub, in the layout that evaluate reads.

    Example: sesame fetch-glue glue

    Requires network access and the package huggingface_hub (pip install 'sesame[hub]').
    """
    from sesame.evaluation.fetch import fetch

    print(f"tasks: {fetch(directory)}")


@app.command("compile", short_help="Compile the loops of prepare.")
def precompile() -> None:
    """Compile the loops of prepare for this processor, so that the first run does not have to.

    Example: sesame compile

    `make` and the Docker images do this. Otherwise the first run compiles what it needs and caches it.
    """
    from sesame.data_pipeline.precompile import precompile

    print(f"compiled loops: {precompile()}")


@app.command("configs", short_help="List the shipped configuration files.")
def list_configs() -> None:
    """List the shipped configuration files. Each can be given by its name, from any folder.

    Example: sesame configs
    """
    for name, description in descriptions():
        print(f"{name:<34}{description}")


@app.command(short_help="Submit stages to Slurm.")
def submit(
    files: Annotated[list[Path], typer.Argument(parser=find, metavar="FILE.toml...", help="A corpus, a run, a suite.")],
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
    from sesame.launch import submit as slurm

    habits = configs.load(cluster, slurm.ClusterConfig, ()) if cluster else slurm.ClusterConfig()
    chosen = {name: value for name, value in (("partition", partition), ("account", account)) if value is not None}
    allocation = slurm.Allocation(nodes, gpus_per_node, time)
    chain = slurm.jobs(
        files, with_folders(overrides, output=output), processes or gpus_per_node or 1, checkpoint, data_dir
    )
    lines = slurm.submit(chain, allocation, habits.model_copy(update=chosen), dry_run=dry_run)
    print("\n".join(lines))


@app.command(short_help="Check machines before a run.")
def doctor(
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=output_folder, help="Where runs will be written (runs)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the speeds as machine.json, for sesame plan --machine.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure for half a minute instead of two.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes on this machine; otherwise one for each GPU.")
    ] = None,
) -> None:
    """Check machines before a run: versions, devices, limits, speeds, the network, and a short training.

    Example: sesame doctor --quick

    On the machines of a Slurm job: srun --ntasks-per-node=1 sesame doctor. It ends with what to change; the exit code
    is 1 if a run could not start, else 0.
    """
    from sesame.launch.doctor.start import start

    raise typer.Exit(start(folder or Path("runs"), output, processes, quick=quick))


@app.command("plan", short_help="Plan a run: memory, layout, time, cost.")
def plan_run(
    run: Annotated[
        Path, typer.Argument(parser=finders["pretrain"], metavar="RUN.toml", help="Configuration of a run.")
    ],
    gpus: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of devices; otherwise the fewest that do.")
    ] = None,
    gpu: Annotated[str, typer.Option(metavar="NAME", help="Kind of device: a row of the table, or cpu.")] = "h100-80gb",
    machine: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured speeds, from `sesame doctor --output FILE`.")
    ] = None,
    for_memory_of: Annotated[
        float | None, typer.Option(min=0.1, metavar="GIB", help="Plan for devices with so much memory.")
    ] = None,
    as_configured: Annotated[
        bool, typer.Option("--as-configured", help="Only the layout of the file; an error if it does not fit.")
    ] = False,
    assume: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Change an assumption; may be repeated.")
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens of the tokenizer; otherwise the corpus file's.")
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=8, metavar="N", help="Tokens of a row; otherwise the corpus file's.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(parser=finders["corpus"], metavar="CORPUS.toml", help="What will prepare the dataset."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Plan a run: parameters, memory of each layout, step time, hours, energy and cost. Starts nothing.

    Example: sesame plan configs/pretrain/megatron_8.3b.toml --gpus 64 --gpu h100-80gb

    The dataset need not exist. Everything that is assumed is printed and can be changed.
    """
    from rich.console import Console

    from sesame.launch import planning

    options = overrides or (), gpus, gpu, machine, for_memory_of, as_configured, assume or ()
    planning.plan(planning.Request(run, *options, vocabulary, sequence_length, corpus), Console())


@app.command(short_help="Run all stages on a small example.")
def demo(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Output folder of all stages.")] = Path("runs/demo"),
    glue: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Fine-tune on the GLUE tasks in this folder instead.")
    ] = None,
) -> None:
    """Run all stages on a small example in a few minutes: prepare, pretrain, fine-tune, and show the scores.

    Example: sesame demo
    """
    from sesame.launch.demo import run_demo

    raise typer.Exit(run_demo(output, glue))


def main() -> None:
    """Entry point: an error of the user is one sentence and exit code 2, anything else a traceback."""
    try:
        app()
    except (SesameError, OSError) as error:
        if (message := message_of(error)) is None:
            raise
        print(f"sesame: {message}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(f"sesame: stopped by {stopped}; run the same command again to resume", file=sys.stderr)
        sys.exit(CONTINUE)
    except KeyboardInterrupt:
        print("sesame: interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
