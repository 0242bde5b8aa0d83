"""The tokenizer that a configuration names, as the content of one file."""

from pathlib import Path

from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.files import read_bytes


def given_model(config: TokenizerConfig) -> bytes:
    """Return the tokenizer that ``config.model`` names as the content of one ``tokenizer.model``.

    Raises:
        ConfigError: a file is missing or damaged, or has a setting that is not supported.
    """
    assert config.model is not None
    path = Path(config.model)
    if not (path.is_dir() or path.suffix in (".txt", ".json")):
        return read_bytes(path)
    from sesame.data_pipeline.tokenizers.pretrained_files import read_pretrained

    lowercase = config.lowercase if "lowercase" in config.model_fields_set else None
    return read_pretrained(path, lowercase=lowercase, leading_space=config.leading_space)
