"""The tokenizer of a dataset: a given one, or one trained on a sample of the documents."""

from collections.abc import Iterator
from functools import partial

from sesame.configs.errors import ConfigError
from sesame.configs.storage import digest_of
from sesame.data_pipeline.cleaning.pieces import PARAGRAPH_END
from sesame.data_pipeline.cleaning.selection import Outcome
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.examples.sentences import split as split_sentences
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.steps.documents import Documents
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.workers import Workers

SAMPLED_CHARACTERS = 10_000
"""Longer paragraphs are sampled in pieces of this length, because one line may be a whole book."""


def check_given_tokenizer(config: CorpusConfig) -> None:
    """Check a given tokenizer before anything is read.

    Raises:
        ConfigError: it cannot be loaded, or lacks a mask token that the recipe needs.
    """
    path = config.tokenizer.model
    if path is None:
        return
    given = Tokenizer.from_bytes(given_model(config.tokenizer), path)
    if given.special.mask is None and config.corrupt.kind not in ("nothing", "masked_spans"):
        raise ConfigError(
            f"{path}: has no mask token, but corrupt.kind is '{config.corrupt.kind}'; set corrupt.kind to 'nothing', "
            "or give a tokenizer that has one"
        )


def given_digest(config: CorpusConfig) -> str | None:
    """Return the SHA-256 of the given tokenizer as the dataset stores it; None if one is trained."""
    return None if config.tokenizer.model is None else digest_of(given_model(config.tokenizer))


def keeps_white_space(config: CorpusConfig) -> bool:
    """Return whether documents keep indentation and all their line breaks."""
    if config.clean.white_space != "auto" or config.tokenizer.model is None:
        return config.clean.white_space == "kept"
    given = Tokenizer.from_bytes(given_model(config.tokenizer), config.tokenizer.model)
    return config.segment.kind == "contiguous" and given.keeps_line_breaks


def losses(config: CorpusConfig, tokenizer: Tokenizer) -> list[str]:
    """Return the properties of the text that cannot be recovered from the rows."""
    if tokenizer.keeps_line_breaks and not keeps_white_space(config):
        return ["indentation and repeated line breaks (clean.white_space)", *tokenizer.losses]
    return tokenizer.losses


def make_tokenizer(config: CorpusConfig, documents: Documents, workers: Workers) -> bytes:
    """Return the file of the given tokenizer, or of one trained on a sample of the training documents."""
    if config.tokenizer.model is not None:
        return given_model(config.tokenizer)
    characters = sum(int(choice.characters[choice.keep(Outcome.TRAIN)].sum()) for choice in documents.choices)
    fraction = min(1.0, config.tokenizer.sample_megabytes * 1e6 / max(1, characters))
    return workers.once(
        "train the tokenizer", partial(train, _sample(documents, fraction, config.seed), config.tokenizer)
    )


def _sample(documents: Documents, fraction: float, seed: int) -> Iterator[str]:
    """Yield the sentences of a ``fraction`` of the paragraphs; long paragraphs are sampled in pieces."""
    for number, (part, choice) in enumerate(zip(documents.parts, documents.choices, strict=True)):
        rng = generator(seed, "tokenizer sample", number)
        for document in part.read(choice.keep(Outcome.TRAIN), choice.paragraphs):
            for paragraph in document.text.split(PARAGRAPH_END):
                for start in range(0, len(paragraph), SAMPLED_CHARACTERS):
                    if rng.random() < fraction:
                        yield from split_sentences(paragraph[start : start + SAMPLED_CHARACTERS])
