"""The tokenizer of a model folder, held to what else the folder says of its tokens."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import ConversionError, SesameError
from data_pipeline.tokenizers import huggingface as tokenizer_exchange
from data_pipeline.tokenizers.special_tokens import Special
from data_pipeline.tokenizers.tokenizer import Tokenizer
from pretrain.huggingface.aside import sentences
from pretrain.huggingface.strict_json import json_object, shown

FILES = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
"""JSON files of a tokenizer; each may be absent."""
WORD_PIECES = "vocab.txt"
ROLES = {"pad_token_id": "pad", "cls_token_id": "cls", "sep_token_id": "sep", "mask_token_id": "mask"}
"""Key of ``config.json`` -> role here."""


def read_tokenizer(folder: Path) -> bytes:
    """The bytes of a ``tokenizer.model`` from a model folder.

    Raises:
        ConfigError: the folder has no tokenizer of a known kind.
        ConversionError: a file is damaged, or the folder adds a token that the tokenizer does not have.
    """
    with sentences(folder, "read"):
        given = {name: json_object(folder / name) for name in FILES if (folder / name).exists()}
        try:
            tokenizer = tokenizer_exchange.read_tokenizer(folder)
            named = Tokenizer.from_bytes(tokenizer, str(folder))
            for added in (*_vocabulary(given), *_added(given)):
                _check(folder, named, added)
            _check_names(folder, named, given)
        except SesameError:
            raise
        except Exception as error:
            # Whatever a library finds wrong in a file that is not ours.
            raise ConversionError(
                f"{folder}: the tokenizer's files are damaged ({type(error).__name__}: {shown(str(error))}); copy them "
                "anew"
            ) from None
    return tokenizer


def special_ids(values: Mapping[str, Any], special: Special, origin: str) -> list[str]:
    """What ``config.json`` says of special tokens and the tokenizer does not.

    Raises:
        ConversionError: texts would be written from another token on.
    """
    start = values.get("decoder_start_token_id")
    if start not in (None, special.pad):
        raise ConversionError(
            f"{origin}: 'decoder_start_token_id' is {start}, but decoders start with the padding token here, which is "
            f"{special.pad}; change the tokenizer or the key"
        )
    ids = special.ids()
    return [
        f"the tokenizer's {role} token {ids[role]} is used, not '{key}' = {shown(values[key])} of config.json"
        for key, role in ROLES.items()
        if values.get(key) is not None and role in ids and values[key] != ids[role]
    ]


class Token(NamedTuple):
    """A token as a file names it."""

    origin: str
    name: Any
    id: Any
    special: bool
    """Is no text: transformers does not look for it in a text that is to be read as it stands."""


def _vocabulary(given: Mapping[str, dict[str, Any]]) -> Iterator[Token]:
    """The pieces of a ``tokenizer.json``, which transformers reads and not the vocabulary beside it."""
    vocabulary = given.get("tokenizer.json", {}).get("model", {}).get("vocab")
    if isinstance(vocabulary, dict):
        yield from (Token("tokenizer.json", name, token, True) for name, token in vocabulary.items())


def _added(given: Mapping[str, dict[str, Any]]) -> Iterator[Token]:
    """All tokens that the files add to a vocabulary."""
    for token in given.get("tokenizer.json", {}).get("added_tokens") or []:
        yield Token("tokenizer.json", token["content"], token["id"], bool(token.get("special")))
    for number, token in (given.get("tokenizer_config.json", {}).get("added_tokens_decoder") or {}).items():
        yield Token("tokenizer_config.json", token["content"], int(number), bool(token.get("special")))
    for name, number in given.get("added_tokens.json", {}).items():
        yield Token("added_tokens.json", name, number, True)


def _check_names(folder: Path, named: Tokenizer, given: Mapping[str, dict[str, Any]]) -> None:
    """Special tokens that are named without an id, and to which transformers gives the next one where they are new."""
    for origin in ("tokenizer_config.json", "special_tokens_map.json"):
        tokens = given.get(origin, {}).get("additional_special_tokens") or []
        names = [token["content"] if isinstance(token, dict) else token for token in tokens]
        known = {named.piece(token) for token in range(len(named))} if names else set()
        for name in names:
            if name not in known:
                raise ConversionError(
                    f"{folder}: {origin} adds the token {shown(name)}, which the vocabulary does not have; add it "
                    "there, or remove it from the file"
                )


def _check(folder: Path, named: Tokenizer, token: Token) -> None:
    here = named.piece(token.id) if isinstance(token.id, int) and 0 <= token.id < len(named) else None
    if here != token.name:
        raise ConversionError(
            f"{folder}: {token.origin} has the token {shown(token.name)} with the id {shown(token.id)}, which the "
            "vocabulary beside it does not have there; add it to the vocabulary, or remove it from the file"
        )
    if not token.special and (folder / WORD_PIECES).is_file():
        raise ConversionError(
            f"{folder}: {token.origin} finds {shown(token.name)} in a text before it is cut into word pieces, which "
            "has no counterpart here; remove it from the added tokens"
        )
