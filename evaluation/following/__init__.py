"""Scores of the checkpoints of a run, while it trains or afterwards, and their curve."""
