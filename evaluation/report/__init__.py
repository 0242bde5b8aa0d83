"""The report of an evaluation: ``summary`` and ``statistics`` compute what ``write`` shows."""
