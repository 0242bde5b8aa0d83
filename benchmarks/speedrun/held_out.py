"""How well a checkpoint predicts the held-out documents: nats per word, comparable between all recipes.

    python -m benchmarks.speedrun.held_out CHECKPOINT DATASET OUTPUT.json

The validation loss of a training is of its own mask rate, row length, objective and vocabulary. Here every model
predicts the same words from the same others, whatever pieces its vocabulary makes of them. The held-out documents are
cut into windows of ``WINDOW`` words, and all pieces of every ``EVERY``-th word are masked. A word's probability is the
product of those of its pieces, each given the pieces before it: the pseudo-log-likelihood of Salazar et al. 2020 with
the pieces of a word in order (Kauf and Ivanova 2023, "within-word left-to-right"), of several words in one pass. The
number of a word's pieces is visible.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sesame.configs.errors import CheckpointError, DatasetError
from sesame.configs.storage import digest_of, write_text
from sesame.data_pipeline.dataset.shards import DOCUMENTS
from sesame.data_pipeline.ragged import boundaries
from sesame.data_pipeline.tokenizers.special_tokens import Special
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetuning.batches import batches_by_length
from sesame.evaluation.zero_shot.language_model import load_language_model
from sesame.evaluation.zero_shot.likelihood import MASKED, Inputs, log_probabilities
from sesame.pretrain.allocator import keep_freed_memory
from sesame.pretrain.checkpoints.load import latest
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE
from sesame.pretrain.precision import of_device

WINDOW = 48
"""Words: about 80 tokens, which fit into the rows of every recipe."""
EVERY, FIRST = 6, 3
"""Words ``FIRST``, ``FIRST + EVERY``, ... of a window are predicted: one sixth, near BERT's mask rate of .15."""


class Word(NamedTuple):
    """A word of a window."""

    pieces: list[int]
    is_predicted: bool


class HeldOut(NamedTuple):
    """What is known of the held-out documents."""

    nats_per_word: float
    """Mean of -log p over the predicted words."""
    words: int
    """That are predicted; the same for every tokenizer."""
    documents_sha256: str
    """Of their texts, which other datasets and folders share."""


def measure(checkpoint: Path, documents: Path) -> HeldOut:
    """Return the nats per word of a checkpoint, on the GPU if there is one.

    Args:
        checkpoint: of a masked model.
        documents: ``validation_documents.jsonl`` of a dataset.

    Raises:
        SesameError: the checkpoint cannot predict masked tokens.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory(device)
    model, head = load_language_model(checkpoint)
    tokenizer = Tokenizer.load((latest(checkpoint) or checkpoint) / TOKENIZER_FILE)
    if head not in MASKED or tokenizer.special.mask is None:
        needed = " or ".join(MASKED)
        raise CheckpointError(
            f"{checkpoint}: has the objective {head}, but held-out words need {needed}; leave the recipe out"
        )
    texts = [json.loads(line)["text"] for line in documents.read_bytes().splitlines()]
    found = [window for text in texts for window in windows(text, tokenizer)]
    words = sum(word.is_predicted for window in found for word in window)
    if not words:
        raise DatasetError(f"{documents}: has no document of more than {FIRST} words; give a text with longer ones")
    longest = (model.backbone.positions or sys.maxsize) - 2
    parts = chain.from_iterable(fitting(window, longest) for window in found)
    inputs = list(predictions(parts, tokenizer.special))
    lengths = np.array([len(each.tokens) for each in inputs])
    model, total = model.to(device), 0.0
    is_bf16 = of_device(device).name == "bf16"
    for rows in batches_by_length(lengths, lengths):
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            total += float(log_probabilities(model, head, [inputs[row] for row in rows], device).sum())
    return HeldOut(-total / words, words, digest_of("\0".join(texts).encode()))


def windows(text: str, tokenizer: Tokenizer) -> Iterator[list[Word]]:
    """Yield the windows of a document; words are separated by white space, so all tokenizers have the same."""
    words = text.split()
    pieces = tokenizer.encode_batch(words)
    for start in range(0, len(words), WINDOW):
        window = pieces[start : start + WINDOW]
        yield [Word(each, number % EVERY == FIRST) for number, each in enumerate(window)]


def fitting(window: Sequence[Word], longest: int) -> Iterator[Sequence[Word]]:
    """Yield a window, or halves of it of at most ``longest`` tokens; a word of more than that is cut."""
    if sum(len(word.pieces) for word in window) <= longest:
        yield window
    elif len(window) == 1:
        yield [window[0]._replace(pieces=window[0].pieces[:longest])]
    else:
        middle = len(window) // 2
        yield from fitting(window[:middle], longest)
        yield from fitting(window[middle:], longest)


def predictions(windows: Iterable[Sequence[Word]], special: Special) -> Iterator[Inputs]:
    """Yield what is computed for each window: once with all predicted words masked, for the first piece of each, and
    for every further piece once more, with the pieces before it in their places."""
    for number, window in enumerate(windows):
        masked = [[special.mask] * len(word.pieces) if word.is_predicted else word.pieces for word in window]
        tokens = np.array([special.cls, *chain.from_iterable(masked), special.sep], np.int64)
        starts = 1 + boundaries(np.array([len(word.pieces) for word in window]))
        chosen = [
            (int(start), np.array(word.pieces, np.int64))
            for start, word in zip(starts, window, strict=False)
            if word.is_predicted and word.pieces
        ]
        if not chosen:
            continue
        firsts = np.array([pieces[0] for _, pieces in chosen])
        yield Inputs(number, tokens, np.array([start for start, _ in chosen]), firsts)
        for start, pieces in chosen:
            for known in range(1, len(pieces)):
                shown = tokens.copy()
                shown[start : start + known] = pieces[:known]
                yield Inputs(number, shown, np.array([start + known]), pieces[known : known + 1])


def main(checkpoint: Path, dataset: Path, output: Path) -> None:
    """Write the nats per word as JSON."""
    found = measure(checkpoint, dataset / DOCUMENTS)
    write_text(output, json.dumps(found._asdict(), indent=1) + "\n")
    print(f"{found.nats_per_word:.4f} nats per word, {found.words:,} words")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
