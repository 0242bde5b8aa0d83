"""Training sentencepiece models (Kudo & Richardson 2018)."""

import io
from collections.abc import Iterable

import sentencepiece

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.special_tokens import PIECES, SENTINEL

TRAINING_THREADS = 2
"""Fixed, because sums over threads depend on their number, and the model's bytes must not depend on the machine."""


def train(sentences: Iterable[str], config: TokenizerConfig) -> bytes:
    """Return the bytes of a model trained on ``sentences``; equal sentences give equal bytes.

    Raises:
        CorpusError: the text is too small for the vocabulary.
    """
    model = io.BytesIO()
    roles = list(PIECES)
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocabulary_size,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            normalization_rule_name="nmt_nfkc_cf" if config.lowercase else "nmt_nfkc",
            num_threads=TRAINING_THREADS,
            max_sentence_length=16384,
            minloglevel=2,
            bos_id=-1,
            eos_id=-1,
            pad_id=0,
            unk_id=1,
            pad_piece=PIECES["pad"],
            unk_piece=PIECES["unk"],
            control_symbols=[
                *(PIECES[role] for role in roles[2:]),
                *(SENTINEL.format(number) for number in range(config.sentinels)),
            ],
        )
    except RuntimeError as error:
        raise CorpusError(
            f"the corpus is too small for tokenizer.vocabulary_size {config.vocabulary_size}; lower it or give more "
            f"text (sentencepiece: {str(error).splitlines()[-1].strip()})"
        ) from None
    return model.getvalue()
