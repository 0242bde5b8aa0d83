"""Compiles the loops before their first use, for an installation or an image."""

import numpy as np

from sesame.pretrain.compiled.cross_entropy import cross_entropy
from sesame.pretrain.compiled.dropout import drop, scale_kept
from sesame.pretrain.compiled.gelu import gelu_tanh, gelu_tanh_backward
from sesame.pretrain.compiled.random_bits import WORDS, draw_pairs
from sesame.pretrain.compiled.rotation import rotate

FORMATS = (np.float32, np.uint16)
"""Types of arrays of fp32 and bf16."""


def precompile() -> None:
    """Call each loop with small arrays of the types that training has."""
    draw_pairs(np.ones(WORDS, np.uint32), WORDS, np.empty(4, np.uint32))
    bits, kept, labels = np.zeros(4, np.int16), np.empty(4, np.uint8), np.zeros(1, np.int64)
    for number_format in FORMATS:
        numbers, output = np.zeros(4, number_format), np.empty(4, number_format)
        drop(numbers, bits, np.int16(0), np.float32(1), output, kept)
        scale_kept(numbers, kept, np.float32(1), output)
        gelu_tanh(numbers, output)
        gelu_tanh_backward(numbers, numbers, output)
        for angle_format in {number_format, np.float32}:
            angles = np.zeros((1, 2), angle_format)
            rotate(numbers.reshape(1, 1, 2, 2), angles, angles, np.float32(1), output.reshape(1, 1, 2, 2))
        cross_entropy(output[None], labels, -1, np.float32(0), True, np.empty(1, np.float32))
