"""Call a function now or in a thread; its result or exception is a future."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def call(function: Callable[[], Result]) -> "Future[Result]":
    """Call a function now; the future has its result or exception."""
    future: Future[Result] = Future()
    _fill(future, function)
    return future


def call_in_thread(function: Callable[[], Result]) -> "Future[Result]":
    """Call a function in a thread that does not keep the process alive."""
    # Not an executor: the interpreter would wait for its threads, which may wait for processes that have ended.
    future: Future[Result] = Future()
    threading.Thread(target=_fill, args=(future, function), name="checkpoint", daemon=True).start()
    return future


def _fill(future: "Future[Result]", function: Callable[[], Result]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
