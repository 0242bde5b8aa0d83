"""Loops over the numbers of a training step on a CPU, compiled by numba: functions of arrays, without torch.

An array of bf16 has the type uint16, for numba has no such number format.
"""
