"""Shards become a checkpoint: the training stage."""
