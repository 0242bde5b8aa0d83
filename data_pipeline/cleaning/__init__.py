"""Cleaning of documents: normalization, filters, deduplication, and their choice for training or validation."""
