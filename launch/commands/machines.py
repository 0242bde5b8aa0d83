"""Commands for clusters."""

from pathlib import Path
from typing import Annotated

import typer

from sesame import configs
from sesame.configs.shipped import find, finders
from sesame.launch.commands.options import Output, Overrides
from sesame.launch.overrides import output_folder, with_folders


def submit(
    files: Annotated[list[Path], typer.Argument(parser=find, metavar="FILE.toml...", help="A corpus, a run, a suite.")],
    time: Annotated[str, typer.Option("--time", metavar="T", help="Time of each job: minutes, HH:MM:SS or D-HH:MM.")],
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Machines of each job; a suite takes one.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, metavar="G", help="GPUs on each machine.")] = 0,
    cpus_per_node: Annotated[
        int, typer.Option(min=0, metavar="C", help="Processors on each machine; otherwise what the cluster gives.")
    ] = 0,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trainers on each machine; otherwise one for each GPU.")
    ] = None,
    partition: Annotated[str | None, typer.Option(metavar="P", help="Instead of the cluster file's.")] = None,
    account: Annotated[str | None, typer.Option(metavar="A", help="Instead of the cluster file's.")] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="CLUSTER.toml", help="What every job of your cluster needs; see docs/clusters.md."),
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
    allocation = slurm.Allocation(nodes, gpus_per_node, time, cpus_per_node)
    chain = slurm.jobs(
        files, with_folders(overrides, output=output), processes or gpus_per_node or 1, checkpoint, data_dir, nodes
    )
    lines = slurm.submit(chain, allocation, habits.model_copy(update=chosen), dry_run=dry_run)
    print("\n".join(lines))


def plan_run(
    run: Annotated[
        Path, typer.Argument(parser=finders["pretrain"], metavar="RUN.toml", help="Configuration of a run.")
    ],
    gpus: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of devices; otherwise the fewest that do.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Kind of device, such as a100-80gb, h100 or cpu (h100-80gb).")
    ] = None,
    machine: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured speeds, from `sesame doctor --output FILE`.")
    ] = None,
    for_memory_of: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="GIB", help="Plan for devices with so much memory, and the speed of --gpu."),
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

    from sesame.launch.planning.command import plan
    from sesame.launch.planning.request import Request

    options = overrides or (), gpus, gpu, machine, for_memory_of, as_configured, assume or ()
    plan(Request(run, *options, vocabulary, sequence_length, corpus), Console())


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
