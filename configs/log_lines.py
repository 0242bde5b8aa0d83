"""The time of day on the lines of a log; a terminal shows progress as it happens and needs none."""

import time


def timed(message: str, *, is_terminal: bool) -> str:
    """Return a line of progress for a log: ``HH:MM:SS`` in local time, and the message; for a terminal only that."""
    return message if is_terminal else f"{time.strftime('%H:%M:%S')} {message}"
