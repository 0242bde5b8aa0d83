"""Every full-size run can be built on the meta device and has the published number of parameters."""

from pathlib import Path
from typing import NamedTuple

import pytest

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.learner import build
from sesame.pretrain.models.family import Vocabulary

FOLDER = Path(configs.__file__).parent / "pretrain"


class Published(NamedTuple):
    vocabulary: int
    """Tokens of the paper's vocabulary."""
    parameters: float
    """As published, or of the released weights."""
    counts: tuple[str, ...] = ("backbone", "objectives")
    """Prefixes of the names of the parameters that the publication counts."""


PUBLISHED = {
    # The released weights, with pooler and heads, hold 110.1 million; the paper rounds to 110M.
    "bert_base": Published(30522, 110.1e6),
    # The paper states 340M; the released BertForPreTraining holds 336.2 million, of which the encoder is 335.1.
    "bert_large": Published(30522, 335.1e6, ("backbone", "objectives.sentence_pairs.pooler")),
    "roberta_large": Published(50265, 355.4e6),
    # The paper states 235M; the released weights hold 222.6 million with pooler and without the masked head.
    "albert_xxlarge": Published(30000, 222.6e6, ("backbone", "objectives.sentence_pairs.pooler")),
    # Character filters 0.2, highways 16.8, their projection 1.0, four LSTMs of 18.9 million each; without softmax.
    "elmo": Published(32768, 93.6e6, ("backbone",)),
    # The paper states 1542M, the count with GPT-1's 40,478 tokens (see below); the released weights have more.
    "gpt2_xl": Published(50257, 1557.6e6),
    "megatron_8.3b": Published(50257, 8.3e9),
    "turing_nlg_17b": Published(50257, 17.2e9),
    "gpt3_175b": Published(50257, 174.6e9),
    "t5_11b": Published(32100, 11.31e9),
    "switch_c": Published(32100, 1.571e12),
    "modern_base": Published(50368, 149.0e6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_the_published_number_of_parameters(name: str) -> None:
    run = configs.load(FOLDER / f"{name}.toml", RunConfig)
    learner = build(run.model, run.objectives, Vocabulary(PUBLISHED[name].vocabulary))
    assert all(parameter.is_meta for parameter in learner.parameters())
    counted = sum(p.numel() for part, p in learner.named_parameters() if part.startswith(PUBLISHED[name].counts))
    assert counted == pytest.approx(PUBLISHED[name].parameters, rel=0.005)


def test_every_full_size_run_is_counted() -> None:
    large = {path.stem for path in FOLDER.glob("*.toml") if not path.stem.endswith("_small")}
    assert large - {"demo", "books"} == set(PUBLISHED)


def plain_transformer(layers: int, width: int, inner: int) -> int:
    """Return the number of weights, biases and norm weights of a Transformer's blocks."""
    attention, feed_forward, norms = 4 * width * (width + 1), 2 * width * inner + inner + width, 4 * width
    return layers * (attention + feed_forward + norms)


def test_the_counts_are_those_of_the_formulas() -> None:
    """Exact counts from the papers' shapes, which show a mistake that is smaller than the tolerance above."""
    lstm = 2 * 512 * 4 * 4096 + 4 * 4096 + 4096 * 512
    filters = sum(count * (16 * size + 1) for size, count in enumerate((32, 32, 64, 128, 256, 512, 1024), 1))
    characters = 261 * 16 + filters + 2 * 2 * 2048 * 2049 + 2048 * 512 + 512
    formulas = {
        "elmo": characters + 4 * lstm + 32768 * 513,
        "gpt2_xl": plain_transformer(48, 1600, 6400) + (50257 + 1024 + 2) * 1600,
        "megatron_8.3b": plain_transformer(72, 3072, 12288) + (51200 + 1024 + 2) * 3072,
        "gpt3_175b": plain_transformer(96, 12288, 49152) + (50304 + 2048 + 2) * 12288,
        "roberta_large": plain_transformer(24, 1024, 4096) + (50265 + 514 + 1 + 2) * 1024 + 1024 * 1027 + 50265,
    }
    for name, expected in formulas.items():
        run = configs.load(FOLDER / f"{name}.toml", RunConfig)
        learner = build(run.model, run.objectives, Vocabulary(PUBLISHED[name].vocabulary))
        assert sum(parameter.numel() for parameter in learner.parameters()) == expected, name


@pytest.mark.parametrize(
    ("layers", "width", "printed"), [(12, 768, 117), (24, 1024, 345), (36, 1280, 762), (48, 1600, 1542)]
)
def test_gpt2s_printed_counts_are_those_of_gpt1s_vocabulary(layers: int, width: int, printed: int) -> None:
    """All four sizes of the paper's table 2 are those with 40,478 tokens, and none with 50,257."""
    rest = plain_transformer(layers, width, 4 * width) + (1024 + 2) * width
    assert round((rest + 40478 * width) / 1e6) == printed
    assert round((rest + 50257 * width) / 1e6) > printed


CLUSTERS = {
    "megatron_8.3b": (512,),
    "turing_nlg_17b": (256,),
    "gpt3_175b": (1024,),
    "t5_11b": (512,),
    "switch_c": (512, 1024, 2048),
}
"""Number of processes of a run, from its file or its paper; 8 for the others."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_batch_is_divisible_by_its_number_of_processes(name: str) -> None:
    run = configs.load(FOLDER / f"{name}.toml", RunConfig)
    for processes in CLUSTERS.get(name, (8,)):
        data = processes // run.parallel.tensor
        micro_batch, accumulation = run.data.batch_plan(data)
        assert data * run.parallel.tensor == processes and data % run.parallel.expert == 0
        assert micro_batch * accumulation * data == run.data.global_batch
