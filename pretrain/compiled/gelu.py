"""GELU by its approximation with a hyperbolic tangent (Hendrycks & Gimpel 2016), and its gradient.

x (1 + tanh(u)) / 2 is x / (1 + exp(-2 u)), with u = sqrt(2 / pi) (x + 0.044715 x^3).
"""

from typing import Any

import numpy as np

from sesame.data_pipeline.compiled import floating
from sesame.pretrain.compiled.formats import exp, load, store

F = np.float32
SLOPE, CUBE = F(2 * np.sqrt(2 / np.pi)), F(0.044715)


@floating
def gelu_tanh(states: Any, output: Any) -> None:
    """Write the function of each entry of [n], bf16 or fp32."""
    for index in range(len(states)):
        x = load(states, index)
        store(output, index, x / (F(1.0) + exp(-SLOPE * (x + CUBE * x * x * x))))


@floating
def gelu_tanh_backward(gradient: Any, states: Any, output: Any) -> None:
    """Write the gradient of the states."""
    for index in range(len(states)):
        x = load(states, index)
        share = F(1.0) / (F(1.0) + exp(-SLOPE * (x + CUBE * x * x * x)))
        slope = share + x * share * (F(1.0) - share) * SLOPE * (F(1.0) + F(3.0) * CUBE * x * x)
        store(output, index, load(gradient, index) * slope)
