"""``sesame verify``: a dataset held against what it states, without the code that made it."""
