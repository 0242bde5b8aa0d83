"""The baseline of others: BertForMaskedLM of transformers, trained in the manner of its ``run_mlm.py``.

    python -m benchmarks.speedrun.transformers_loop RUN.json

As in that script: rows of one length without padding, 15 % of the tokens are predicted and drawn anew each time (80 %
[MASK], 10 % random, 10 % kept), AdamW of torch without weight decay, gradients clipped to norm 1, the learning rate
falls linearly to 0, weights are initialized by transformers. The ids are those of the recipe's corpus, so that both
sides read the same tokens of the same text.

RUN.json names the dataset, the output folder, a seed, the steps or minutes, and ``settings``, a :class:`Settings`. The
model and its tokenizer are written to OUTPUT/model in transformers' layout, numbers to OUTPUT/result.json.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from pydantic import Field
from torch import Tensor

from benchmarks.speedrun.trainers import VALIDATION_ROWS
from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import DatasetError
from sesame.configs.storage import atomic_directory, write_text
from sesame.data_pipeline.dataset.shards import Dataset, Split, open_dataset
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.huggingface import write_tokenizer
from sesame.pretrain import precision as precisions
from sesame.pretrain.data.packing import pack
from sesame.pretrain.learner import build
from sesame.pretrain.models.bert import BertConfig
from sesame.pretrain.models.family import Vocabulary


class Settings(Section):
    """Section [pretrain] of a recipe of kind ``transformers``; the defaults are those of ``run_mlm.py``."""

    layers: int = Field(default=12, gt=0)
    width: int = Field(default=768, gt=0)
    heads: int = Field(default=12, gt=0)
    feed_forward_width: int = Field(default=3072, gt=0)
    positions: int = Field(default=512, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of hidden states and of attention weights."""
    batch_size: int = Field(default=8, gt=0)
    learning_rate: float = Field(default=5e-5, gt=0)
    mask_probability: float = Field(default=0.15, gt=0, lt=1)
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0: one for each core that it may use."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """auto: autocast to bf16 where the device computes it in hardware, as our own runs do (run_mlm.py: fp32)."""


class Rows:
    """Rows of equal length of one split, in an order for each epoch."""

    def __init__(self, split: Split, seed: int):
        blocks = [block["tokens"] for block in split.blocks()]
        lengths = np.concatenate([np.diff(block.offsets) for block in blocks if isinstance(block, Ragged)])
        length = int(np.median(lengths))
        rows = [np.split(block.values, block.offsets[1:-1]) for block in blocks if isinstance(block, Ragged)]
        # As run_mlm.py does, which drops what is left over at the end of its text.
        self.ids = np.stack([row for block in rows for row in block if len(row) == length]).astype(np.int64)
        self.seed, self.length = seed, length

    def batch(self, first: int, size: int) -> Tensor:
        """Return rows ``first`` to ``first + size`` of the endless stream of epochs."""
        places = np.arange(first, first + size)
        epochs, places = places // len(self.ids), places % len(self.ids)
        orders = {int(epoch): self._order(int(epoch)) for epoch in np.unique(epochs)}
        return torch.from_numpy(self.ids[[orders[int(e)][p] for e, p in zip(epochs, places, strict=True)]])

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.ids))


def masked(ids: Tensor, special: dict[str, int], size: int, share: float, generator: torch.Generator) -> Any:
    """Return (inputs, labels) as ``DataCollatorForLanguageModeling`` makes them."""
    labels, inputs = ids.clone(), ids.clone()
    is_special = torch.isin(ids, torch.tensor([special[name] for name in ("pad", "cls", "sep", "mask", "unk")]))
    chosen = (torch.rand(ids.shape, generator=generator) < share) & ~is_special
    labels[~chosen] = -100
    draw = torch.rand(ids.shape, generator=generator)
    inputs[chosen & (draw < 0.8)] = special["mask"]
    is_random = chosen & (draw >= 0.8) & (draw < 0.9)
    inputs[is_random] = torch.randint(size, ids.shape, generator=generator)[is_random]
    return inputs, labels


class Loop:
    """One training."""

    def __init__(self, dataset: Dataset, settings: Settings, seed: int):
        self.settings, self.tokenizer = settings, dataset.manifest.tokenizer
        torch.manual_seed(seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        rate = settings.dropout
        config = transformers.BertConfig(
            vocab_size=self.tokenizer.vocabulary_size,
            hidden_size=settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.feed_forward_width,
            max_position_embeddings=settings.positions,
            hidden_dropout_prob=rate,
            attention_probs_dropout_prob=rate,
            pad_token_id=self.tokenizer.special["pad"],
        )
        self.model: Any = transformers.BertForMaskedLM(config)
        self.model.to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), settings.learning_rate, weight_decay=0.0)
        self.train, self.validation = (Rows(dataset.split(name), seed) for name in ("train", "validation"))
        name = precisions.of_device(self.device).name if settings.precision == "auto" else settings.precision
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=name == "bf16")
        self.draw = torch.Generator().manual_seed(seed)
        self.predictions = 0

    def loss(self, ids: Tensor, draw: torch.Generator) -> Tensor:
        inputs, labels = masked(
            ids, self.tokenizer.special, self.tokenizer.vocabulary_size, self.settings.mask_probability, draw
        )
        self.predictions += int((labels >= 0).sum())
        with self.autocast:
            return self.model(input_ids=inputs.to(self.device), labels=labels.to(self.device)).loss

    def step(self, number: int, left: float) -> None:
        """Take a step; ``left`` is the share of the run that is left."""
        size = self.settings.batch_size
        self.loss(self.train.batch(number * size, size), self.draw).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * left
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def validate(self) -> float:
        """Return the mean loss over the same masks for every run."""
        self.model.eval()
        draw, seen = torch.Generator().manual_seed(1), self.predictions
        ids = torch.from_numpy(self.validation.ids[:VALIDATION_ROWS])
        losses = [float(self.loss(part, draw)) for part in ids.split(32)]
        self.predictions = seen
        self.model.train()
        return float(np.mean(losses))

    def flops(self, steps: int) -> float:
        """Return the operations of so many steps, by the formulas that count those of our own models."""
        settings, size = self.settings, self.settings.batch_size
        config = BertConfig(
            layers=settings.layers,
            width=settings.width,
            heads=settings.heads,
            feed_forward_width=settings.feed_forward_width,
            positions=settings.positions,
        )
        learner = build(config, {"masked_lm": 1.0}, Vocabulary(self.tokenizer.vocabulary_size))
        rows = pack(list(self.train.ids[:size]), [self.train.length] * size)
        heads = learner.objectives["masked_lm"].flops(self.predictions)
        return float(steps * learner.backbone.flops(rows) + heads)

    def save(self, folder: Path, tokenizer: Path) -> None:
        with atomic_directory(folder) as partial:
            self.model.save_pretrained(partial)
            write_tokenizer(tokenizer, partial, "bert", self.settings.positions, 2)


def run(config: dict[str, Any], origin: str) -> None:
    """Train as RUN.json says, unless its output is there."""
    output = Path(config["output"])
    if (output / "result.json").exists() and (output / "model").exists():
        return
    settings = configs.parse(config["settings"], Settings, origin)
    dataset = open_dataset(Path(config["dataset"]), verify=True)
    recipe = dataset.manifest.recipe
    if recipe["segment"]["kind"] != "contiguous" or recipe["corrupt"]["kind"] != "nothing":
        raise DatasetError(
            f"{dataset.path}: this loop draws its own masks in rows of one length; set segment.kind = 'contiguous' and "
            "corrupt.kind = 'nothing' in the recipe's corpus"
        )
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    loop = Loop(dataset, settings, config["seed"])
    steps, seconds = config["steps"], 60 * config["minutes"] if config["minutes"] else None
    begin, taken = time.monotonic(), 0
    while True:
        used = time.monotonic() - begin
        done = used / seconds if seconds else taken / steps
        if done >= 1:
            break
        loop.step(taken, 1 - done)
        taken += 1
        if taken % 100 == 0:
            print(f"step {taken}/{steps or '?'}, {used / 60:.1f} minutes", flush=True)
    minutes = (time.monotonic() - begin) / 60
    loss = loop.validate()
    if not (output / "model").exists():
        loop.save(output / "model", dataset.tokenizer_path)
    tokens = taken * settings.batch_size * loop.train.length
    numbers = {"steps": taken, "minutes": minutes, "tokens": tokens, "flops": loop.flops(taken)}
    write_text(output / "result.json", json.dumps({**numbers, "validation_loss": loss}, indent=1) + "\n")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    run(json.loads(path.read_text(encoding="utf-8")), f"{path}: settings")
