"""Settings of the tokenizer of a dataset."""

from typing import Literal

from pydantic import Field

from configs import Section


class TokenizerConfig(Section):
    """A given model, or how to train one on the corpus."""

    model: str | None = None
    """A tokenizer to use as it is: a sentencepiece model, BERT's ``vocab.txt``, a ``tokenizer.json`` (both known by
    their endings), or a folder with one of these or with GPT-2's ``encoder.json`` and ``vocab.bpe``. Its own settings
    decide, those of a ``tokenizer.json`` or ``tokenizer_config.json`` beside it too. Of the other fields only
    ``lowercase`` and ``leading_space`` then have an effect, and each only where it says so."""
    kind: Literal["unigram", "bpe"] = "unigram"
    """Algorithm (unigram: Kudo 2018; bpe: Sennrich et al. 2016)."""
    vocabulary_size: int = Field(default=8192, gt=16, le=2**20)
    """Pieces, special tokens included."""
    lowercase: bool = True
    """Fold case while normalising (NFKC); the model remembers it, so fine-tuning does the same. A ``vocab.txt`` does
    not say whether it is uncased, so this decides it where no other file beside it does: true for an uncased one
    (accents are then stripped too), false for a cased one."""
    leading_space: bool | None = None
    """Only byte-level BPE (GPT-2's files): each document begins as if after a space (GPT2Tokenizer's add_prefix_space);
    not said: as the files say, or else not."""
    character_coverage: float = Field(default=0.9995, gt=0, le=1)
    """Share of the characters of the sample that get a piece; 0.9995 for Chinese or Japanese."""
    byte_fallback: bool = False
    """Spell unknown characters as bytes instead of [UNK]; takes 256 pieces."""
    sentinels: int = Field(default=0, ge=0)
    """Special tokens <extra_id_0> ... that stand for hidden spans (T5: 100); at least the spans of the longest row."""
    sample_megabytes: float = Field(default=10.0, gt=0)
    """Text that the model is trained on, drawn evenly from the corpus; never the whole of it in memory."""
