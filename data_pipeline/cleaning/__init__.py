"""Cleaned text: normalised, filtered, freed of duplicates, cut into parts, chosen."""
