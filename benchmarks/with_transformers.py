"""What the comparisons with transformers share: a model of a shape of ours, padded rows, processes, and clocks."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sesame.evaluation.finetuning.encoded import EncodedExamples

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


def padded(examples: EncodedExamples, rows: np.ndarray, width: int = 0) -> dict[str, torch.Tensor]:
    """Return rows of a task in transformers' layout, padded to ``width`` tokens; 0: to the longest of them."""
    lengths = examples.lengths[rows]
    places = np.arange(width or int(lengths.max()))
    ids, real = np.zeros((len(rows), len(places)), np.int64), places < lengths[:, None]
    for number, row in enumerate(rows):
        ids[number, : lengths[number]] = examples.tokens[row]
    columns = {
        "input_ids": ids,
        "token_type_ids": (real & (places >= examples.first_segment_lengths[rows][:, None])).astype(np.int64),
        "attention_mask": real.astype(np.int64),
    }
    return {name: torch.from_numpy(column) for name, column in columns.items()}


@contextmanager
def connected(serve: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> Iterator[list[Any]]:
    """Start a process that serves for each tuple of arguments, and yield our ends of their connections.

    Args:
        serve: gets the other end as its last argument, and returns when it receives None.
    """
    context, connections, processes = multiprocessing.get_context("spawn"), [], []
    for each in arguments:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(*each, there), daemon=True)
        process.start()
        connections.append(here)
        processes.append(process)
    yield connections
    for connection, process in zip(connections, processes, strict=True):
        connection.send(None)
        process.join()
