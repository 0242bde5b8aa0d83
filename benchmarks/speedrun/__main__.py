"""The commands of the speedrun; ``README.md`` explains them.

python -m benchmarks.speedrun list --text FOLDER
python -m benchmarks.speedrun run RECIPE.toml ... --track cpu-30m --text FOLDER --evaluation FOLDER
python -m benchmarks.speedrun check RECIPE.toml --track cpu-30m --text FOLDER --evaluation FOLDER
python -m benchmarks.speedrun draw
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from benchmarks.speedrun import document_list
from benchmarks.speedrun.checking import compare, find, require_same
from benchmarks.speedrun.commands import Deadline, Paused
from benchmarks.speedrun.options import HERE, LIST, SUITES, Options, Stage
from benchmarks.speedrun.presentation import draw, write_tables
from benchmarks.speedrun.record import joined, read_records, records_so_far
from benchmarks.speedrun.run import Run
from benchmarks.speedrun.tracks import TRACKS
from benchmarks.speedrun.trials import BASELINE
from sesame.configs.errors import ConfigError, message_of
from sesame.configs.stopping import Stopped, raise_signals

RECORDS, TRIALS = HERE / "records.jsonl", HERE / "trials.jsonl"


def run(arguments: argparse.Namespace) -> int:
    """Run each recipe; one that fails is reported and the next one begins."""
    failed = 0
    for recipe in arguments.recipes:
        try:
            queued = Run(recipe, arguments.track, TRACKS[arguments.track], _options(arguments))
            if queued.is_for_track:
                queued.run()
            else:
                print(f"{queued.name}: left out, because it is for {', '.join(queued.recipe.tracks)}", flush=True)
        except Exception as error:
            if (message := message_of(error)) is None:
                raise
            print(f"{recipe.stem}: {message}", file=sys.stderr, flush=True)
            failed += 1
    return 2 if failed else 0


def check(arguments: argparse.Namespace) -> int:
    """Compute the last record of a recipe again, and compare."""
    (recipe,) = arguments.recipes
    record = find(joined(read_records(arguments.records)), recipe.stem, arguments.track, arguments.records)
    options = _options(
        arguments,
        steps=record.runs[0].steps,
        minutes=record.minutes,
        seeds=tuple(run.seed for run in record.runs),
        random_init=any(score.random_init is not None for score in record.scores.values()),
        enforces_minutes=False,
        records=arguments.work / RECORDS.name,
        trials=arguments.work / TRIALS.name,
    )
    run = Run(recipe, arguments.track, TRACKS[arguments.track], options)
    require_same(record, run)
    again = run.run()
    assert again is not None, "it ends with the last stage"
    found = compare(record, again)
    print("\n".join(found.lines))
    print(f"{record.title}: {'confirmed' if found.is_confirmed else 'NOT CONFIRMED'}")
    return 0 if found.is_confirmed else 1


def make_list(arguments: argparse.Namespace) -> int:
    """Make a list of documents of a corpus."""
    is_left_out = _holds_evaluation(arguments.evaluation) if arguments.evaluation else None
    words = document_list.make_list(arguments.text, arguments.list, arguments.words, is_left_out)
    print(f"{arguments.list}: {words:,} words")
    return 0


def present(arguments: argparse.Namespace) -> int:
    """Draw the picture of the records and write the tables of README.md."""
    files = (arguments.records, arguments.trials)
    if not any(path.exists() for path in files):
        raise ConfigError(f"{arguments.records}: no such file, nor {arguments.trials}; `run` writes them")
    records, trials = (joined(records_so_far(path)) for path in files)
    if records:
        draw(records, arguments.picture)
    write_tables(records, trials, arguments.readme, arguments.baseline)
    print(f"{arguments.readme}: {len(records)} records, {len(trials)} trials")
    return 0


def _holds_evaluation(folder: Path) -> Callable[[str], bool]:
    """Return whether a text contains 13 consecutive words of a dev or test set (``cleaning/overlap.py``)."""
    from sesame.data_pipeline.cleaning.overlap import Overlap

    files = sorted(str(path) for path in folder.rglob("*.tsv") if path.name.startswith(("dev", "test")))
    return Overlap.of(tuple(files), str).is_in


def _options(arguments: argparse.Namespace, **others: Any) -> Options:
    names = [field.name for field in fields(Options) if hasattr(arguments, field.name)]
    values = {name: getattr(arguments, name) for name in names}
    if hasattr(arguments, "first_seed"):
        values["seeds"] = tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds))
    return Options(**{**values, **others}, deadline=Deadline(arguments.stop_after))


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(
        prog="python -m benchmarks.speedrun", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = root.add_subparsers(required=True)
    for name, function, add in (
        ("run", run, _add_run),
        ("check", check, _add_check),
        ("list", make_list, _add_list),
        ("draw", present, _add_draw),
    ):
        command = commands.add_parser(name, help=function.__doc__)
        command.set_defaults(function=function)
        add(command)
    return root


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE.toml")
    _add_place(command, Path("runs/speedrun"))
    command.add_argument("--seeds", type=int, default=3, help="number of pretraining seeds")
    command.add_argument("--first-seed", type=int, default=1, help="the later seeds of a record that another run began")
    command.add_argument(
        "--over-time",
        dest="enforces_minutes",
        action="store_false",
        help="go on where a later seed takes longer than the track's minutes: no record",
    )
    command.add_argument("--minutes", type=float, help="a smaller budget than the track's: a trial and no record")
    command.add_argument("--steps", type=int, help="optimizer steps; default: found by a short run")
    command.add_argument("--random-init", action="store_true", help="score the random-init baseline as well")
    command.add_argument("--until", choices=get_args(Stage), default="evaluate", help="the last stage")
    command.add_argument("--trials", type=Path, default=TRIALS, help="file that held-out nats are added to")


def _add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipes", nargs=1, type=Path, metavar="RECIPE.toml")
    _add_place(command, Path("runs/speedrun-check"))


def _add_place(command: argparse.ArgumentParser, work: Path) -> None:
    """Add where a recipe is computed, and from what."""
    command.add_argument("--track", choices=TRACKS, required=True)
    command.add_argument("--text", type=Path, help="folder with the corpus that has the listed documents")
    command.add_argument("--evaluation", type=Path, help="folder with blimp/ and GLUE's tasks")
    command.add_argument("--stop-after", type=float, metavar="MINUTES", help="then stop; the same command goes on")
    command.add_argument("--list", type=Path, default=LIST, help="documents of the text")
    command.add_argument("--suites", type=Path, default=SUITES, help="folder of the evaluation's suites")
    command.add_argument("--workers", type=int, help="processes that fine-tune at a time; default: the track's cores")
    command.add_argument("--work", type=Path, default=work, help="folder of everything that is computed")
    command.add_argument("--records", type=Path, default=RECORDS, help="file of the records")


def _add_list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--text", type=Path, required=True, help="folder with JSON lines")
    command.add_argument("--list", type=Path, required=True, help="file to write")
    command.add_argument("--words", type=int, default=document_list.WORDS)
    command.add_argument("--evaluation", type=Path, help="leave out documents with text of these dev and test sets")


def _add_draw(command: argparse.ArgumentParser) -> None:
    command.add_argument("--records", type=Path, default=RECORDS)
    command.add_argument("--trials", type=Path, default=TRIALS)
    command.add_argument("--baseline", default=BASELINE, help="recipe that gains of the trials are against")
    command.add_argument("--picture", type=Path, default=HERE / "speedrun.png")
    command.add_argument("--readme", type=Path, default=HERE / "README.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = parser().parse_args(arguments)
    try:
        return given.function(given)
    except Paused:
        print("the minutes of --stop-after are over; the same command goes on", flush=True)
        return 75
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        return 130
    except Exception as error:
        if (message := message_of(error)) is None:
            raise
        print(f"speedrun: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise_signals()
    sys.exit(main())
