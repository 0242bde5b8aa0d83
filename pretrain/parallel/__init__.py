"""Parallelism: the only package that knows about more than one process."""
