"""Tokenizers: configured, trained, read from folders, and run by one of three engines."""
