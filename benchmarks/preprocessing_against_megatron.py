"""Text to pre-masked shards, against Megatron-LM's tools/preprocess_data.py, which only tokenises; one core, in turn.

    .venv/bin/python benchmarks/preprocessing_against_megatron.py MEGATRON_DIR TEXT.jsonl MODEL.model [MODEL.model ...]

MEGATRON_DIR is a checkout of Megatron-LM; what it imports (triton among it) must be installed. Every process of both
sides is held to one core. The speed is text over the time that a run takes longer than one on a hundredth of the text,
so that neither side pays for its imports; the whole times stand beside it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Megatron-LM asks for a newer Python than ours for the sake of one decorator without effect.
MEGATRON = (
    "import runpy, sys, typing, typing_extensions; typing.override = typing_extensions.override; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
RECIPE = [
    "segment.kind=next_sentence",
    "corrupt.kind=masked_words",
    "corrupt.drawn=once",
    "workers.count=1",
    "source.kind=json_lines",
]


def main() -> None:
    """Run both on every model and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("megatron", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})
    with tempfile.TemporaryDirectory() as folder:
        little = Path(folder) / "little.jsonl"
        size, small = _first_hundredth(arguments.text, little)
        for model in arguments.models:
            outputs = Path(folder) / model.stem
            outputs.mkdir()
            _compare(model, arguments, (arguments.text, little), (size - small) / 1e6, outputs)


def _first_hundredth(text: Path, little: Path) -> tuple[int, int]:
    """Write the first lines to ``little`` -> (bytes of the whole, of the little)."""
    size, written = text.stat().st_size, 0
    with text.open("rb") as source, little.open("wb") as target:
        while written < size / 100:
            written += target.write(source.readline())
    return size, written


def _compare(
    model: Path, arguments: argparse.Namespace, texts: tuple[Path, Path], megabytes: float, folder: Path
) -> None:
    sides: dict[str, Callable[[Path, int], list[str]]] = {
        "sesame prepare": lambda text, number: _ours(text, model, folder / f"dataset-{number}"),
        "preprocess_data.py": lambda text, number: _theirs(text, model, arguments.megatron, folder / f"ids-{number}"),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    number = 0
    for _ in range(arguments.rounds):
        for name, command in sides.items():
            took = []
            for text in texts:
                number += 1
                took.append(_seconds(command(text, number), arguments.megatron))
            seconds[name].append((took[0], took[1]))
    print(f"{model.name}: {megabytes:.0f} MB of text on one core, {arguments.rounds} rounds in turn")
    speeds = {}
    for name, rounds in seconds.items():
        each = [megabytes / (whole - start) for whole, start in rounds]
        speeds[name] = statistics.median(each)
        whole = statistics.median(first for first, _ in rounds)
        print(f"  {name:20s} {speeds[name]:6.2f} MB/s ({min(each):.2f} to {max(each):.2f}); {whole:.1f} s in all")
    ours, theirs = speeds.values()
    print(f"  ratio of medians     {ours / theirs:6.2f}", flush=True)


def _ours(text: Path, model: Path, output: Path) -> list[str]:
    settings = [*RECIPE, f'source.paths=["{text}"]', f"tokenizer.model={model}"]
    options = [part for setting in settings for part in ("--set", setting)]
    corpus = Path(__file__).parents[1] / "configs" / "corpus" / "books.toml"
    return [sys.executable, "-m", "sesame", "prepare", str(corpus), "--output", str(output), *options]


def _theirs(text: Path, model: Path, megatron: Path, output: Path) -> list[str]:
    tool = str(megatron / "tools" / "preprocess_data.py")
    options = {"input": text, "output-prefix": output, "tokenizer-model": model, "workers": 1}
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    # No --append-eod: these models have no end of text, and the tool then fails in a worker and waits for ever.
    kind = ["--tokenizer-type", "SentencePieceTokenizer"]
    return [sys.executable, "-c", MEGATRON, tool, *flags, *kind]


def _seconds(command: list[str], megatron: Path) -> float:
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join([str(megatron), here, os.environ.get("PYTHONPATH", "")])
    begin = time.perf_counter()
    ended = subprocess.run(
        command, timeout=900, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    if ended.returncode:
        sys.exit(f"{' '.join(command[:4])}: {ended.stderr[-2000:]}")
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
