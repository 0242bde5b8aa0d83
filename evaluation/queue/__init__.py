"""The queue of an evaluation's jobs: what is run where, in which order, how often, and what is kept of it."""
