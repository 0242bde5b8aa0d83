"""What the comparisons with transformers share: its model of a shape of ours, and the clocks."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import transformers

CLOCKS = MappingProxyType({"wall": time.perf_counter, "processor": time.process_time})


def bert_config(vocabulary: int, shape: Mapping[str, Any]) -> "transformers.BertConfig":
    """Return transformers' configuration of a ``BertConfig`` of ours with these fields, with its own dropout of 0.1."""
    # Here, so that the process that measures our steps does not import it.
    import transformers

    return transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=shape["width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["feed_forward_width"],
        max_position_embeddings=shape["positions"],
    )
