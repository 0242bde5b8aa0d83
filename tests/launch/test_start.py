"""Each command imports only the modules that it needs, so that it starts fast."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys
path, sys.argv = sys.argv[1], ["sesame", *sys.argv[2:]]
from sesame.launch.__main__ import main
try:
    main()
finally:
    with open(path, "w") as file:
        print(*sys.modules, sep="\\n", file=file)
"""
HEAVY = {
    "torch",
    "ray",
    "deepspeed",
    "megatron",
    "transformers",
    "sklearn",
    "scipy.sparse",
    "datasketch",
    "matplotlib",
    "ftfy",
}


def imported_modules(tmp_path: Path, *arguments: str, code: str = RUN) -> set[str]:
    """Modules that a command has imported when it ends."""
    path = tmp_path / "modules"
    done = subprocess.run([sys.executable, "-c", code, str(path), *arguments], capture_output=True, text=True)
    assert done.returncode in (0, 2), done.stderr
    return set(path.read_text().split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["prepare", "--help"], ["pretrain", "--help"], ["evaluate", "--help"]]
)
def test_help_imports_no_stage(tmp_path: Path, arguments: list[str]) -> None:
    assert sorted(imported_modules(tmp_path, *arguments) & {*HEAVY, "numpy", "pyarrow", "numba", "sentencepiece"}) == []


def test_inspect_imports_no_heavy_library(tmp_path: Path, dataset: Path) -> None:
    modules = imported_modules(tmp_path, "inspect", str(dataset), "--row", "3")
    assert "pyarrow" in modules
    assert sorted(modules & HEAVY) == []


def test_verify_imports_neither_ray_nor_torch(tmp_path: Path, dataset: Path) -> None:
    modules = imported_modules(tmp_path, "verify", str(dataset), "--card", str(tmp_path / "card"))
    assert "pyarrow" in modules
    assert sorted(modules & (HEAVY - {"matplotlib"})) == []


def test_prepare_imports_only_what_the_recipe_needs(tmp_path: Path) -> None:
    path = tmp_path / "corpus.toml"
    path.write_text('output = "made"\n[source]\nkind = "lines"\npaths = ["nothing.txt"]\n')
    modules = imported_modules(tmp_path, "prepare", str(path), "--set", "source.colour=red")
    assert "ray" in modules
    assert sorted(modules & (HEAVY - {"ray"})) == []


TRAIN = """
import sys
from pathlib import Path
from sesame import configs
from sesame.pretrain import learner, train
from sesame.pretrain.config import RunConfig
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.parallel import deepspeed_api, engine

config = configs.load(sys.argv[2], RunConfig)
model = learner.build(config.model, config.objectives, Vocabulary(8192, Path("tokenizer.model")))
print(*sys.modules, sep="\\n", file=open(sys.argv[1], "w"))
from deepspeed.runtime.zero.utils import is_zero_supported_optimizer
deepspeed_api.import_muon_uncompiled()
print(*sys.modules, sep="\\n", file=open(sys.argv[1] + ".muon", "w"))
"""


def test_a_trainer_imports_no_compiler_and_no_plotting_before_its_first_step(tmp_path: Path) -> None:
    modules = imported_modules(tmp_path, "configs/pretrain/bert_small.toml", code=TRAIN)
    assert "deepspeed" in modules
    compiler = {"torch._dynamo", "torch._inductor.compile_fx"}
    assert sorted(modules & ((HEAVY - {"torch", "deepspeed"}) | compiler | {"tensorboard"})) == []
    with_muon = set((tmp_path / "modules.muon").read_text().split())
    assert "deepspeed.runtime.zero.muon.muon_optimizer" in with_muon
    assert sorted(with_muon & compiler) == []


@pytest.mark.parametrize(
    "module", ["sesame.evaluation.evaluate", "sesame.pretrain.huggingface.to_hf", "sesame.pretrain.huggingface.from_hf"]
)
def test_only_training_imports_the_engines(tmp_path: Path, module: str) -> None:
    code = f"import sys, {module}\nprint(*sys.modules, sep='\\n', file=open(sys.argv[1], 'w'))"
    assert sorted(imported_modules(tmp_path, code=code) & {"ray", "deepspeed", "megatron", "transformers"}) == []
