"""Randomly damaged model folders: ``sesame import`` computes the same as transformers, or refuses the folder with one
sentence, within a time limit and without output."""

import io
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file

from sesame.configs.errors import SesameError
from sesame.pretrain.huggingface.from_hf import import_model
from sesame.pretrain.huggingface.model_folder import INDEX, WEIGHTS
from sesame.pretrain.huggingface.to_hf import export
from tests.fuzz import mutators

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")
random_models = pytest.importorskip("tests.pretrain.huggingface.random_models")
reference = pytest.importorskip("tests.pretrain.huggingface.test_random_models")

FEW, MANY, AT_ONCE = 200, 20_000, 1000
CPU_SECONDS, SECONDS = 5, 120
"""Limits of an import: CPU time and wall time."""
SEEDS = {"Bert": 14, "Roberta": 1, "ModernBert": 2, "Albert": 3, "GPT2": 4, "T5": 5, "SwitchTransformers": 6}


class Model(NamedTuple):
    folder: Path
    architecture: str


def _sharded(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    files = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in files if files[name] == file}, folder / file)
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))


def _sentencepiece(folder: Path) -> None:
    (folder / "vocab.txt").unlink()
    written = io.BytesIO()
    special: dict[str, Any] = {}
    for number, (role, piece) in enumerate(zip(("pad", "unk", "bos", "eos"), random_models.PIECES, strict=False)):
        special |= {f"{role}_id": number, f"{role}_piece": piece}
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=iter(["abcdefghij klmnop", "ponml kjihg fedcba"]),
        model_writer=written,
        model_type="bpe",
        vocab_size=len(random_models.PIECES),
        hard_vocab_limit=False,
        control_symbols=["[MASK]"],
        minloglevel=2,
        **special,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """One exported model of each model type with all tokenizer files, and BERTs as transformers saves them."""
    root, found = tmp_path_factory.mktemp("models"), []
    for kind, seed in SEEDS.items():
        case = random_models.drawn(seed, root / kind / "model")
        import_model(root / kind / "model", root / kind / "checkpoint")
        exported = export(root / kind / "checkpoint", root / kind / "exported")
        found.append(Model(exported.folder, exported.architecture))
        if kind == "Bert":
            for name, change in (("plain", None), ("sharded", _sharded), ("sentencepiece", _sentencepiece)):
                folder = Path(shutil.copytree(root / kind / "model", root / name))
                if change is not None:
                    change(folder)
                found.append(Model(folder, case.architecture))
    return found


def _damage(draw: random.Random, path: Path) -> None:
    """Make one change to a file of a model folder."""
    kinds: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("gone", path.unlink),
        ("folder", lambda: (path.unlink(), path.mkdir())),
        ("pipe", lambda: (path.unlink(), os.mkfifo(path))),
        ("zero", lambda: (path.unlink(), path.symlink_to("/dev/zero"))),
        ("loop", lambda: (path.unlink(), path.symlink_to(path.name))),
    )
    if draw.random() < 0.05:
        draw.choice(kinds)[1]()
    elif path.suffix == ".json":
        value = json.loads(path.read_text())
        path.write_text(mutators.json_text(draw, value), encoding="utf-8", errors="surrogatepass")
    elif path.suffix == ".safetensors":
        path.write_bytes(mutators.safetensors(draw, path.read_bytes()))
    elif path.suffix == ".txt":
        path.write_text(mutators.text(draw, path.read_text()), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_bytes(mutators.data(draw, path.read_bytes()))


@contextmanager
def _limited() -> Iterator[None]:
    """Raise an AssertionError in an import that takes too long."""

    def stop(number: int, frame: Any) -> None:
        raise AssertionError("the import took too long")

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _reference(folder: Path, architecture: str) -> Any:
    """Return the model that transformers loads, None if it does not load the whole folder."""
    kind = getattr(transformers, architecture)
    try:
        model, report = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    except Exception:
        return None
    return None if any(report.values()) else model.float().eval()


def attempt(seed: int, models: list[Model], folder: Path) -> str:
    """Damage a folder, import it and return the outcome."""
    draw = random.Random(seed)
    base = draw.choice(models)
    model = Path(shutil.copytree(base.folder, folder / "model"))
    files = sorted(path for path in model.iterdir())
    weights = [6 if path.name == "config.json" else 3 if path.suffix == ".safetensors" else 1 for path in files]
    for path in dict.fromkeys(draw.choices(files, weights, k=draw.choice((1, 1, 1, 2)))):
        _damage(draw, path)
    before = sorted(path.name for path in folder.iterdir())
    try:
        with _limited():
            import_model(model, folder / "checkpoint")
    except SesameError as error:
        assert "\n" not in str(error), error
        assert sorted(path.name for path in folder.iterdir()) == before
        return "refused"
    other = _reference(model, base.architecture)
    if other is None:
        return "read, but not by transformers"
    columns = reference.columns(seed)
    try:
        wanted = reference.transformers_outputs(other, columns)
    except (RuntimeError, IndexError, ValueError):
        return "read, but not computed by transformers"
    found = reference.sesame_outputs(reference.learner(folder / "checkpoint"), columns)
    for name in wanted.keys() & found.keys():
        if torch.isfinite(wanted[name]).all():
            difference = (found[name] - wanted[name]).abs().max() / wanted[name].abs().max().clamp(min=1e-6)
            assert difference < 1e-3, f"{name}: {difference}"
    return "read"


def attempts(seeds: range, models: list[Model], folder: Path) -> None:
    outcomes: dict[str, int] = {}
    for seed in seeds:
        inside = folder / str(seed)
        inside.mkdir()
        try:
            outcome = attempt(seed, models, inside)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        shutil.rmtree(inside)
    print(outcomes)
    assert outcomes["refused"] > 0.2 * len(seeds) and outcomes["read"] > 0.1 * len(seeds), outcomes


def test_damaged_model_folders(models: list[Model], tmp_path: Path) -> None:
    attempts(range(FEW), models, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, FEW + MANY, AT_ONCE))
def test_many_damaged_model_folders(first: int, models: list[Model], tmp_path: Path) -> None:
    attempts(range(first, first + AT_ONCE), models, tmp_path)
