"""The direction of imports: launch -> evaluation -> pretrain -> data_pipeline -> configs."""

import re
from typing import NamedTuple

import pytest

from tests.imports import REPOSITORY, ROOMS, Import, imports_of, sources

FLOORS: dict[str, tuple[str, ...]] = {
    "data_pipeline": (
        "compiled",
        "ragged random_streams characters arrow_file",
        "sources",
        "cleaning",
        "tokenizers",
        "examples",
        "dataset",
        "verification",
        "inspection",
        "reaper outcome",
        "cluster",
        "config ledger workers pool",
        "steps",
        "prepare precompile",
    ),
    "pretrain": (
        "precision allocator batch compiled device_number dropout_seed step_timer",
        "flops",
        "layers roles",
        "models objectives",
        "learner initialization memory schedule schedule_table",
        "data optimizers",
        "checkpoints",
        "parallel huggingface",
        "reporting monitoring",
        "adaptive_masking average curve metrics stop run_length watch config settings_table run_data run_history",
        "planning validation checkpoint_metadata",
        "start train",
        "replay",
    ),
    "evaluation": (
        "tasks scores answer_scores search_config layout_config finetune_config",
        "config reading fetch probe_data",
        "finetuning",
        "zero_shot results",
        "starting",
        "search progress report jobs",
        "shared_models",
        "queue",
        "evaluate",
        "following",
    ),
    "launch": (
        "overrides processes library_warnings waiting_threads",
        "place submit",
        "pretraining replaying demo doctor planning",
        "commands",
        "__main__",
    ),
}
"""Folders and files of a room from the lowest floor to the highest. Each may import its own floor and those below."""


class Rule(NamedTuple):
    """Modules that only some files may import."""

    name: str
    modules: tuple[str, ...]
    applies_to: tuple[str, ...]
    """Path prefixes of the files that the rule applies to."""
    allowed_in: tuple[str, ...] = ()
    """Path prefixes of exceptions."""
    except_modules: tuple[str, ...] = ()
    """Modules below ``modules`` that every file may import."""


RULES = (
    Rule("data_pipeline runs without torch", ("torch", "deepspeed", "megatron"), ("data_pipeline/",)),
    Rule("only data_pipeline uses ray", ("ray",), ("configs/", "pretrain/", "evaluation/", "launch/")),
    Rule(
        "only data_pipeline/tokenizers/sentencepiece_*.py and what checks it know sentencepiece",
        ("sentencepiece",),
        ("",),
        ("data_pipeline/tokenizers/sentencepiece_", "data_pipeline/verification/reference_tokenizer.py"),
    ),
    Rule(
        "only compiled loops know numba",
        ("numba",),
        ("",),
        ("data_pipeline/compiled/", "pretrain/compiled/"),
    ),
    Rule("compiled loops of training run without torch", ("torch",), ("pretrain/compiled/",)),
    Rule(
        "only huggingface_engine and what checks it know tokenizers",
        ("tokenizers",),
        ("",),
        ("data_pipeline/tokenizers/huggingface_engine.py", "data_pipeline/verification/reference_tokenizer.py"),
    ),
    Rule(
        "verification shares only readers and configurations with the code that it checks",
        ("data_pipeline",),
        ("data_pipeline/verification/",),
        except_modules=(
            "data_pipeline.verification",
            "data_pipeline.ragged",
            "data_pipeline.dataset.shards",
            "data_pipeline.dataset.manifest",
            "data_pipeline.dataset.columns",
            "data_pipeline.cleaning.config",
            "data_pipeline.sources.config",
            "data_pipeline.sources.python_documentation",
        ),
    ),
    Rule(
        "models, layers and objectives do not depend on processes",
        ("torch.distributed", "deepspeed", "megatron", "pretrain.parallel"),
        ("pretrain/models/", "pretrain/layers/", "pretrain/objectives/", "pretrain/learner.py"),
    ),
    Rule("only pretrain/parallel knows megatron", ("megatron",), ("",), ("pretrain/parallel/",)),
    Rule(
        "only deepspeed_api.py imports deepspeed, after it has chosen the accelerator",
        ("deepspeed",),
        ("",),
        ("pretrain/parallel/deepspeed_api.py",),
    ),
)


def violations(imports: list[Import]) -> list[str]:
    """Return one sentence for each import that violates a rule."""
    found = [
        f"{each.path}:{each.line} imports {each.module}, but {rule.name}"
        for each in imports
        for rule in RULES
        if each.matches(*rule.modules)
        and not each.matches(*rule.except_modules)
        and each.path.startswith(rule.applies_to)
        and not (rule.allowed_in and each.path.startswith(rule.allowed_in))
    ]
    for each in imports:
        if (floors := _floors(each)) and floors[0] < floors[1]:
            found.append(f"{each.path}:{each.line} imports {each.module}, which is on a higher floor")
        room = each.path.partition("/")[0]
        if each.top in ROOMS and ROOMS.index(each.top) > ROOMS.index(room):
            found.append(f"{each.path}:{each.line} imports {each.module}, against the direction of imports")
        if room == "launch" and each.top in ROOMS[1:4] and not each.lazy:
            found.append(f"{each.path}:{each.line} imports {each.module} at its top; launch imports stages lazily")
    return found


def _floors(each: Import) -> tuple[int, int] | None:
    """(floor of the file, floor of what it imports) inside of one room; None for other imports."""
    room, _, inside = each.path.partition("/")
    top, _, imported = each.module.partition(".")
    if room != top or room not in FLOORS or not imported:
        return None
    floors = {name: number for number, floor in enumerate(FLOORS[room]) for name in floor.split()}
    importer = inside.partition("/")[0].partition(".")[0]
    return floors.get(importer, len(floors)), floors.get(imported.partition(".")[0], -1)


def test_packages_are_imported_through_sesame() -> None:
    """Other packages on the path may be named configs or launch."""
    bare = re.compile(rf"^\s*(?:from|import) ({'|'.join(ROOMS)})\b", re.MULTILINE)
    paths = [*sources(), *(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "benchmarks").rglob("*.py")]
    found = [(path, match) for path in paths for match in bare.findall(path.read_text(encoding="utf-8"))]
    assert found == []


def test_each_file_of_a_room_has_a_floor() -> None:
    for room, floors in FLOORS.items():
        present = {path.stem for path in (REPOSITORY / room).iterdir() if path.suffix == ".py" or path.is_dir()}
        present -= {"__init__", "__pycache__", "cloud", "kubernetes", "slurm"}
        named = [name for floor in floors for name in floor.split()]
        assert sorted(present) == sorted(named), room


def test_every_file_keeps_the_direction_of_imports() -> None:
    everything = [
        each
        for path in sources()
        for each in imports_of(path.read_text(encoding="utf-8"), path.relative_to(REPOSITORY).as_posix())
    ]
    assert len(everything) > 50
    assert not violations(everything)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("data_pipeline/dataset/shards.py", "import torch"),
        ("data_pipeline/dataset/shards.py", "def later():\n    from torch import nn"),
        ("data_pipeline/prepare.py", "from sesame.pretrain import train"),
        ("pretrain/data/batches.py", "import ray.data"),
        ("pretrain/train.py", "import sentencepiece"),
        ("data_pipeline/tokenizers/tokenizer.py", "import tokenizers"),
        ("pretrain/train.py", "from deepspeed.ops import adam"),
        ("pretrain/parallel/engine.py", "import deepspeed"),
        ("pretrain/models/bert.py", "from torch import distributed"),
        ("pretrain/layers/attention.py", "from ..parallel import mesh"),
        ("pretrain/learner.py", "import megatron.core"),
        ("evaluation/finetune.py", "from sesame.launch import demo"),
        ("launch/__main__.py", "import sesame.pretrain.train"),
        ("configs/errors.py", "import sesame.data_pipeline"),
        ("data_pipeline/cleaning/clean.py", "from sesame.data_pipeline.examples import segment"),
        ("data_pipeline/cleaning/clean.py", "from sesame.data_pipeline.prepare import prepare"),
        ("data_pipeline/verification/row_checks.py", "from sesame.data_pipeline import prepare"),
        ("data_pipeline/verification/row_checks.py", "from sesame.data_pipeline.examples.spans import sentinel_ids"),
        ("data_pipeline/verification/row_checks.py", "from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer"),
        ("data_pipeline/verification/row_checks.py", "from sesame.data_pipeline.compiled import rows"),
        ("data_pipeline/verification/documents.py", "from sesame.data_pipeline.cleaning.clean import normalize"),
        ("pretrain/models/bert.py", "from sesame.pretrain.train import train"),
    ],
)
def test_a_violation_is_found(path: str, text: str) -> None:
    assert violations(imports_of(text, path))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("data_pipeline/tokenizers/sentencepiece_engine.py", "import sentencepiece"),
        ("data_pipeline/verification/documents.py", "from sesame.data_pipeline.cleaning.config import CleanConfig"),
        ("pretrain/parallel/deepspeed_api.py", "import deepspeed"),
        ("pretrain/parallel/tensor_layers.py", "import megatron.core"),
        ("pretrain/train.py", "import torch.distributed as dist"),
        ("launch/__main__.py", "def command():\n    from sesame.pretrain.train import train"),
        ("evaluation/finetune.py", "from sesame.pretrain.checkpoint import load_backbone"),
    ],
)
def test_allowed_imports_are_accepted(path: str, text: str) -> None:
    assert not violations(imports_of(text, path))
