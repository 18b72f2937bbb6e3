"""Requests of tests, with the timeout of tests: a busy machine may take far longer than the 5 s of httpx."""

from __future__ import annotations

from functools import partial

import httpx

TEST_TIMEOUT_SECONDS = 300

get = partial(httpx.get, timeout=TEST_TIMEOUT_SECONDS)
head = partial(httpx.head, timeout=TEST_TIMEOUT_SECONDS)
post = partial(httpx.post, timeout=TEST_TIMEOUT_SECONDS)
