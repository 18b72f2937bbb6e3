"""Requests of tests, with the patience of tests: a busy machine may take far longer than the 5 s of httpx."""

from __future__ import annotations

from functools import partial

import httpx

PATIENCE_SECONDS = 300

get = partial(httpx.get, timeout=PATIENCE_SECONDS)
head = partial(httpx.head, timeout=PATIENCE_SECONDS)
post = partial(httpx.post, timeout=PATIENCE_SECONDS)
