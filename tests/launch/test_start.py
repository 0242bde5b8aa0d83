"""Each command imports only what it needs, so that it starts fast. Checked by module names: times vary."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys
written, sys.argv = sys.argv[1], ["sesame", *sys.argv[2:]]
from launch.__main__ import main
try:
    main()
finally:
    with open(written, "w") as file:
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


def imported(tmp_path: Path, *words: str, code: str = RUN) -> set[str]:
    """The modules that a command has imported when it is through."""
    written = tmp_path / "modules"
    done = subprocess.run([sys.executable, "-c", code, str(written), *words], capture_output=True, text=True)
    assert done.returncode in (0, 2), done.stderr
    return set(written.read_text().split())


@pytest.mark.parametrize("words", [["--help"], ["prepare", "--help"], ["pretrain", "--help"], ["evaluate", "--help"]])
def test_help_imports_no_stage(tmp_path: Path, words: list[str]) -> None:
    assert sorted(imported(tmp_path, *words) & {*HEAVY, "numpy", "pyarrow", "numba", "sentencepiece"}) == []


def test_inspect_reads_a_dataset_with_little(tmp_path: Path, dataset: Path) -> None:
    found = imported(tmp_path, "inspect", str(dataset), "--row", "3")
    assert "pyarrow" in found
    assert sorted(found & HEAVY) == []


def test_verify_needs_neither_ray_nor_torch(tmp_path: Path, dataset: Path) -> None:
    found = imported(tmp_path, "verify", str(dataset), "--card", str(tmp_path / "card"))
    assert "pyarrow" in found
    assert sorted(found & (HEAVY - {"matplotlib"})) == []


def test_preparing_loads_what_a_recipe_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "corpus.toml"
    path.write_text('output = "made"\n[source]\nkind = "lines"\npaths = ["nothing.txt"]\n')
    found = imported(tmp_path, "prepare", str(path), "--set", "source.colour=red")
    assert "ray" in found
    assert sorted(found & (HEAVY - {"ray"})) == []


TRAIN = """
import sys
from pathlib import Path
import configs
from pretrain import learner, train
from pretrain.config import RunConfig
from pretrain.models.family import Vocabulary
from pretrain.parallel import deepspeed_api, engine

config = configs.load(sys.argv[2], RunConfig)
model = learner.build(config.model, config.objectives, Vocabulary(8192, Path("tokenizer.model")))
print(*sys.modules, sep="\\n", file=open(sys.argv[1], "w"))
from deepspeed.runtime.zero.utils import is_zero_supported_optimizer
deepspeed_api.import_muon_uncompiled()
print(*sys.modules, sep="\\n", file=open(sys.argv[1] + ".muon", "w"))
"""


def test_a_trainer_loads_no_compiler_and_draws_nothing_before_its_first_step(tmp_path: Path) -> None:
    found = imported(tmp_path, "configs/pretrain/bert_small.toml", code=TRAIN)
    assert "deepspeed" in found
    compiler = {"torch._dynamo", "torch._inductor.compile_fx"}
    assert sorted(found & ((HEAVY - {"torch", "deepspeed"}) | compiler | {"tensorboard"})) == []
    later = set((tmp_path / "modules.muon").read_text().split())
    assert "deepspeed.runtime.zero.muon.muon_optimizer" in later
    assert sorted(later & compiler) == []


@pytest.mark.parametrize(
    "module", ["evaluation.evaluate", "pretrain.huggingface.to_hf", "pretrain.huggingface.from_hf"]
)
def test_only_training_imports_the_engines(tmp_path: Path, module: str) -> None:
    code = f"import sys, {module}\nprint(*sys.modules, sep='\\n', file=open(sys.argv[1], 'w'))"
    assert sorted(imported(tmp_path, code=code) & {"ray", "deepspeed", "megatron", "transformers"}) == []
