"""Chooses the engine for the content of a tokenizer file."""

from sesame.data_pipeline.tokenizers.engine import Engine


def load_engine(content: bytes, name: str) -> Engine:
    """Return the engine for the content of a tokenizer file. The library that it needs is imported here.

    Args:
        content: a sentencepiece model or a tokenizer JSON.
        name: of the file, for messages.

    Raises:
        ConfigError: neither of the libraries can read it.
    """
    if is_tokenizer_json(content):
        from sesame.data_pipeline.tokenizers.huggingface_engine import HuggingFaceEngine

        return HuggingFaceEngine(content, name)
    from sesame.data_pipeline.tokenizers.sentencepiece_engine import SentencePieceEngine

    return SentencePieceEngine(content, name)


def is_tokenizer_json(content: bytes) -> bool:
    """Return whether these bytes are a tokenizer JSON; a sentencepiece model never begins like one."""
    return content.startswith(b"{")
