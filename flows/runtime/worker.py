"""A Prefect worker that outlives its server: python -m flows.runtime.worker, with what `prefect worker start` takes."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence

from flows.runtime.engine_settings import take_settings_over
from flows.runtime.server_outages import keep_asking_the_server
from flows.runtime.warm_keeper import keep_warm_process
from models.enrolment import pool_of


def main() -> None:
    """Start a worker; it ends when it is asked to."""
    keep_asking_the_server()
    with keep_warm_process() as warm:
        if warm is not None:
            warm.wait()
        run_worker(sys.argv[1:])


def run_worker(words: Sequence[str]) -> None:
    """Run a worker in this process, which may have been imported with other variables."""
    take_settings_over()
    keep_asking_the_server()
    from prefect.cli import app

    if pool_of(os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")[0]) in words:
        # Before the worker, whose event loop is its own.
        threading.Thread(target=_keep_deployed, args=(words,), daemon=True, name="deployments").start()
    sys.argv = ["prefect", "worker", "start", *words]
    app()


def _keep_deployed(words: Sequence[str]) -> None:
    from flows.runtime.enrolled import keep_deployed

    asyncio.run(keep_deployed(words[words.index("--pool") + 1]))


if __name__ == "__main__":
    main()
