"""Datasets shown to people: examples, a card, a summary."""
