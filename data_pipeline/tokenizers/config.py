"""Settings of the tokenizer of a dataset."""

from typing import Literal

from pydantic import Field

from sesame.configs import Section


class TokenizerConfig(Section):
    """A given tokenizer, or how to train one on the corpus."""

    model: str | None = None
    """Path of an existing tokenizer: a sentencepiece model, BERT's ``vocab.txt``, a ``tokenizer.json`` (both recognized
    by their endings), or a folder with one of these or with GPT-2's ``encoder.json`` and ``vocab.bpe``. Its settings
    and those of a ``tokenizer.json`` or ``tokenizer_config.json`` beside it are used. Of the other fields only
    ``lowercase`` and ``leading_space`` then have an effect, for the files that they name."""
    kind: Literal["unigram", "bpe"] = "unigram"
    """Algorithm (unigram: Kudo 2018; bpe: Sennrich et al. 2016)."""
    vocabulary_size: int = Field(default=8192, gt=16, le=2**20)
    """Pieces, special tokens included."""
    lowercase: bool = True
    """Fold case while normalizing (NFKC); stored in the model, so fine-tuning does the same. A ``vocab.txt`` does not
    say whether it is uncased, so this decides it unless a file beside it does: true for an uncased one (accents are
    then stripped too), false for a cased one."""
    leading_space: bool | None = None
    """Only byte-level BPE (GPT-2's files): each document begins as if after a space (GPT2Tokenizer's add_prefix_space);
    by default as the files say, else false."""
    character_coverage: float = Field(default=0.9995, gt=0, le=1)
    """Share of the sample's characters that are covered by pieces; 0.9995 for Chinese or Japanese."""
    byte_fallback: bool = False
    """Encode unknown characters as bytes instead of [UNK]; uses 256 pieces."""
    sentinels: int = Field(default=0, ge=0)
    """Special tokens <extra_id_0> ... that stand for masked spans (T5: 100); at least as many as the longest row has
    spans."""
    sample_megabytes: float = Field(default=10.0, gt=0)
    """Text to train on, sampled uniformly from the corpus; the corpus is not held in memory."""
