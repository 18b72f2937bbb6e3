"""A Prefect worker that outlives its server: python -m flows.runtime.worker, with what `prefect worker start` takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flows.runtime.engine_settings import take_settings_over
from flows.runtime.server_outages import keep_asking_the_server
from flows.runtime.warm_keeper import keep_warm_process


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

    sys.argv = ["prefect", "worker", "start", *words]
    app()


if __name__ == "__main__":
    main()
