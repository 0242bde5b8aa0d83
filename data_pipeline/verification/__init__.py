"""``sesame verify``: check a dataset against its manifest and recipe, without the code that makes datasets."""

PREPARE_AGAIN = "prepare the dataset again"
"""What to do about a dataset that is not as it should be."""
