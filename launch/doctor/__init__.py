"""``sesame doctor``: what a run needs of its machines, measured in every process, and what to change.

``checks.py`` is the table of the checks. Each measures in every process (``measure``), and the first process judges the
values of all (``judge``).
"""
