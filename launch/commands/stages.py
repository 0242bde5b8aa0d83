"""The stages from raw text to a score."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.shipped import finders
from sesame.configs.stopping import raise_signals
from sesame.launch.commands.options import Output, Overrides
from sesame.launch.library_warnings import ignore_library_warnings
from sesame.launch.overrides import with_folders
from sesame.launch.place import machine
from sesame.launch.processes import SESAME, supervise


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
        typer.Option(min=1, metavar="N", help="Start N trainers on this machine."),
    ] = None,
) -> None:
    """Train a model on a dataset. Run again with the same output folder, it resumes from the last checkpoint.

    Example: sesame pretrain configs/pretrain/demo.toml --output runs/demo/pretrain

    Without --processes the training runs in this process, which may be one of those that torchrun or the deepspeed
    launcher has started.
    """
    from sesame.launch import pretraining

    raise typer.Exit(pretraining.start(run, with_folders(overrides, output=output), processes or 1))


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output folder of pretrain.")],
    step: Annotated[int, typer.Option("--step", min=1, metavar="N", help="The last step that is computed again.")],
) -> None:
    """Compute steps of a run again from its newest checkpoint before step N, and compare every bit.

    Example: sesame replay runs/demo/pretrain --step 120

    It compares losses, gradient norms and the checkpoints on the way. A difference, exit code 1, means that the
    machine computed something wrong without an error, or does not compute the same each time.
    """
    from sesame.launch import replaying

    raise typer.Exit(replaying.start(run, step))


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
            metavar="DIR",
            help="A checkpoint, the output folder of pretrain, or a model folder of transformers; overrides the one in "
            "the file.",
        ),
    ] = None,
    follow: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Score each checkpoint of this pretraining run, also those to come, until it has ended."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Task files in GLUE's layout, DIR/CoLA/train.tsv; overrides the one in the file."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Run jobs in N Ray workers; without it one after the other, here."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Fine-tune in N processes of this machine together, which divide every batch, or with parallel.tensor "
            "and parallel.zero_stage also the model.",
        ),
    ] = None,
    output: Output = None,
    overrides: Overrides = None,
) -> None:
    """Fine-tune a checkpoint, and the same model from random weights, on each task; write a report of the scores.

    Example: sesame evaluate configs/evaluation/glue.toml --checkpoint runs/demo/pretrain --data-dir glue

    Without an output folder the report is written beside the run's checkpoints, to RUN/evaluation/STEP/SUITE. With
    --follow it is RUN/evaluation/follow-SUITE, with a report for each checkpoint and the curve of all.

    torchrun and the deepspeed launcher can start the processes as well.
    """
    ignore_library_warnings()
    from sesame.evaluation.config import EvaluationConfig
    from sesame.evaluation.evaluate import default_output, evaluate
    from sesame.evaluation.following import follow as following

    if processes is not None and "RANK" not in os.environ:
        place = machine(processes, command="sesame evaluate SUITE.toml --processes N")
        if place.processes * place.machines > 1:
            raise typer.Exit(supervise([*SESAME, *sys.argv[1:]], place))
    if checkpoint is not None and follow is not None:
        raise ConfigError("--checkpoint and --follow are both given; --follow takes the checkpoints of a run")
    overrides = with_folders(overrides, checkpoint=checkpoint, data_dir=data_dir, output=output)
    raise_signals()
    config = configs.load(suite, EvaluationConfig, [*overrides, *_workers(workers)])
    if follow is not None:
        following.follow(config, follow, config.output or following.default_output(follow, suite.stem))
        return
    beside = default_output(config.checkpoint, suite.stem) if config.checkpoint is not None else None
    evaluate(config, config.output or beside, shlex.join(["sesame", *sys.argv[1:]]))


def _workers(count: int | None) -> list[str]:
    return [] if count is None else [f"queue.workers={count}"]


def check_submission(
    path: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder or zip archive of prediction files.")],
) -> None:
    """Check a submission to a benchmark's server: its files, their rows, indices and labels.

    Example: sesame check-submission runs/glue/GLUE.zip
    """
    from sesame.evaluation.results.check import check_submission

    print(check_submission(path))


def compare(
    first: Annotated[Path, typer.Argument(metavar="REPORT", help="Output folder of an evaluation.")],
    second: Annotated[Path, typer.Argument(metavar="REPORT", help="That of another checkpoint, on the same tasks.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML page with examples on which they disagree.")
    ] = None,
) -> None:
    """Compare two evaluated checkpoints: the difference on each task, its interval, and whether it is shown.

    Example: sesame compare runs/bert/scores runs/roberta/scores --output compare.html
    """
    from sesame.evaluation.report.compare import compare_reports, comparison_text
    from sesame.evaluation.report.compare_page import write_compare_page

    compared = compare_reports(first, second)
    print(comparison_text(compared))
    if output is not None:
        print(f"page: {write_compare_page(compared, output)}")


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
