"""Reading of a model folder's tokenizer, with a check of all files that name tokens."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.errors import ConversionError, SesameError
from sesame.configs.file_errors import file_errors_as
from sesame.configs.strict_json import abbreviate, read_json_object
from sesame.data_pipeline.tokenizers import huggingface
from sesame.data_pipeline.tokenizers.special_tokens import Special
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain.huggingface.model_folder import ADVICE

FILES = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
"""JSON files of a tokenizer, all optional."""
WORDPIECE_VOCABULARY = "vocab.txt"
ROLES = {"pad_token_id": "pad", "cls_token_id": "cls", "sep_token_id": "sep", "mask_token_id": "mask"}
"""Key of ``config.json`` -> field of ``Special``."""


def read_tokenizer(folder: Path) -> bytes:
    """Return the content of a ``tokenizer.model`` equivalent to the tokenizer of a model folder.

    Raises:
        ConfigError: the folder has no tokenizer of a supported type.
        ConversionError: a file is damaged, or names a token that the tokenizer does not have.
    """
    with file_errors_as(ConversionError, folder, "read"):
        contents = {
            name: read_json_object(folder / name, ConversionError, ADVICE) for name in FILES if (folder / name).exists()
        }
        try:
            content = huggingface.read_tokenizer(folder)
            tokenizer = Tokenizer.from_bytes(content, str(folder))
            for token in (*_vocabulary(contents), *_added_tokens(contents)):
                _check_token(folder, tokenizer, token)
            _check_special_names(folder, tokenizer, contents)
        except SesameError:
            raise
        except Exception as error:
            # Any exception: the tokenizer libraries raise many types for damaged files.
            raise ConversionError(
                f"{folder}: the tokenizer's files are damaged ({type(error).__name__}: {abbreviate(str(error))}); copy "
                "them again"
            ) from None
    return content


def special_ids(values: Mapping[str, Any], special: Special, origin: str) -> list[str]:
    """Return messages about special ids of ``config.json`` that differ from the tokenizer's.

    Raises:
        ConversionError: the decoder's first token is not the padding token.
    """
    start = values.get("decoder_start_token_id")
    if start not in (None, special.pad):
        raise ConversionError(
            f"{origin}: 'decoder_start_token_id' is {start}, but must be the tokenizer's padding token, {special.pad}; "
            "correct the key or the tokenizer"
        )
    ids = special.ids()
    return [
        f"the tokenizer's {role} token {ids[role]} is used, not '{key}' = {abbreviate(values[key])} of config.json"
        for key, role in ROLES.items()
        if values.get(key) is not None and role in ids and values[key] != ids[role]
    ]


class Token(NamedTuple):
    """An entry for a token in a file."""

    origin: str
    """File name."""
    content: Any
    id: Any
    in_text: bool
    """Whether transformers searches for it in text before pre-tokenization: an added token that is not special."""


def _vocabulary(contents: Mapping[str, dict[str, Any]]) -> Iterator[Token]:
    """Yield the vocabulary of ``tokenizer.json``, which transformers reads in place of the files beside it."""
    vocabulary = contents.get("tokenizer.json", {}).get("model", {}).get("vocab")
    if isinstance(vocabulary, dict):
        yield from (Token("tokenizer.json", content, token, False) for content, token in vocabulary.items())


def _added_tokens(contents: Mapping[str, dict[str, Any]]) -> Iterator[Token]:
    """Yield all tokens that the files add to a vocabulary."""
    for token in contents.get("tokenizer.json", {}).get("added_tokens") or []:
        yield Token("tokenizer.json", token["content"], token["id"], not token.get("special"))
    for number, token in (contents.get("tokenizer_config.json", {}).get("added_tokens_decoder") or {}).items():
        yield Token("tokenizer_config.json", token["content"], int(number), not token.get("special"))
    for content, number in contents.get("added_tokens.json", {}).items():
        yield Token("added_tokens.json", content, number, False)


def _check_special_names(folder: Path, tokenizer: Tokenizer, contents: Mapping[str, dict[str, Any]]) -> None:
    """Check special tokens that are listed without an id; transformers would append those that are new."""
    for origin in ("tokenizer_config.json", "special_tokens_map.json"):
        tokens = contents.get(origin, {}).get("additional_special_tokens") or []
        names = [token["content"] if isinstance(token, dict) else token for token in tokens]
        vocabulary = {tokenizer.piece(token) for token in range(len(tokenizer))} if names else set()
        for name in names:
            if name not in vocabulary:
                raise ConversionError(
                    f"{folder}: {origin} lists the token {abbreviate(name)}, which is not in the vocabulary; add it "
                    "there, or remove it from the file"
                )


def _check_token(folder: Path, tokenizer: Tokenizer, token: Token) -> None:
    in_range = isinstance(token.id, int) and 0 <= token.id < len(tokenizer)
    if not in_range or tokenizer.piece(token.id) != token.content:
        raise ConversionError(
            f"{folder}: {token.origin} gives the token {abbreviate(token.content)} the id {abbreviate(token.id)}, "
            "which contradicts the vocabulary; correct one of the files"
        )
    if token.in_text and (folder / WORDPIECE_VOCABULARY).is_file():
        raise ConversionError(
            f"{folder}: {token.origin} adds {abbreviate(token.content)} as a token that is not special, which is not "
            "supported; remove it from the added tokens"
        )
