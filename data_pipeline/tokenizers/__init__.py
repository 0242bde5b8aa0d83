"""Tokenizers: configuration, training, reading files, and the engines that encode text."""
