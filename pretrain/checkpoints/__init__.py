"""The checkpoint folder: written, read, compared with a run, and removed when it is old."""
