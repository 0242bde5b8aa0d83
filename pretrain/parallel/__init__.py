"""Placement: the only room that knows that the world is larger than one process."""
