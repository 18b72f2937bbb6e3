"""Calls in threads for which the process does not wait when it ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Answer = TypeVar("Answer")


def call_in_background(call: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Future[Answer]:
    """Call it in a thread of its own: only a question that may stay without an answer, since it ends with the process.

    The answer, or what the call raises, is the future's.
    """
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the caller that waits for the answer gets it
            answer.set_exception(error)

    Thread(target=run, name=f"background-{getattr(call, '__name__', 'call')}", daemon=True).start()
    return answer
