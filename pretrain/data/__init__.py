"""Rows of a dataset -> packed batches, in one global order."""
