"""The command ``sesame``, the DeepSpeed launch script and the demo.

A stage is imported inside the command that runs it, so that ``sesame prepare`` works on a machine without torch.
"""
