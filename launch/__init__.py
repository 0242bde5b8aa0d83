"""Starts each stage somewhere: the command ``sesame``, the DeepSpeed script and the demo.

A stage is imported only by the command that needs it, so that preparing text works on a machine without torch.
"""
