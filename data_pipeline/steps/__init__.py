"""The steps of ``prepare.py``: what each asks of the workers, and what it makes of their results."""
