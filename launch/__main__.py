"""The command ``sesame``: one subcommand for each stage from raw text to a GLUE score, and tools around them."""

import os
import sys

import typer

from sesame.configs.errors import USER_ERRORS, message_of
from sesame.configs.stopping import CONTINUE, Stopped, raise_signals
from sesame.launch.commands import data, machines, models, runs, stages
from sesame.launch.waiting_threads import sleep_early

app = typer.Typer(
    name="sesame",
    help="Pretrain language models, from raw text to a GLUE score: prepare, pretrain, evaluate. Each stage reads one "
    "TOML file and writes one folder. Start with: sesame demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COMMANDS = (
    ("prepare", stages.prepare, "Prepare a dataset from raw text."),
    ("inspect", data.inspect, "Show examples of a dataset."),
    ("verify", data.verify, "Check a dataset against its manifest."),
    ("pretrain", stages.pretrain, "Train a model on a dataset."),
    ("watch", runs.watch, "Watch a run in the terminal."),
    ("report", runs.report, "Write a page about one run or several."),
    ("replay", stages.replay, "Compute steps of a run again and compare."),
    ("evaluate", stages.evaluate, "Fine-tune a checkpoint on tasks and report its scores."),
    ("compare", stages.compare, "Compare two evaluated checkpoints."),
    ("check-submission", stages.check_submission, "Check test predictions before they are sent."),
    ("average", models.average, "Average the weights of checkpoints."),
    ("export", models.export, "Convert a checkpoint to a transformers model."),
    ("import", models.import_model, "Convert a transformers model to a checkpoint."),
    ("probe-tasks", data.probe_tasks, "Make small tasks from validation documents."),
    ("fetch-glue", data.fetch_glue, "Download GLUE in its official layout."),
    ("compile", data.precompile, "Compile the loops of prepare and pretrain."),
    ("configs", data.list_configs, "List the shipped configuration files."),
    ("submit", machines.submit, "Submit stages to Slurm."),
    ("doctor", machines.doctor, "Check machines before a run."),
    ("plan", machines.plan_run, "Plan a run: memory, layout, time, cost."),
    ("demo", stages.demo, "Run all stages on a small example."),
)
"""(name, function, short help) in the order of ``sesame --help``."""

for name, function, short_help in COMMANDS:
    app.command(name, short_help=short_help)(function)


def main() -> None:
    """Entry point: an error of the user is one sentence and exit code 2, anything else a traceback."""
    if os.getpid() == 1:
        # The first process of a container gets no signal that it has no handler for.
        raise_signals()
    sleep_early()
    try:
        app()
    except USER_ERRORS as error:
        if (message := message_of(error)) is None:
            raise
        print(f"sesame: {message}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(f"sesame: stopped by {stopped}; run the same command again to resume", file=sys.stderr)
        sys.exit(CONTINUE)
    except SystemExit as end:
        # typer replaces the interrupt by an exit with code 130.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            print("sesame: interrupted; run the same command again to resume", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
