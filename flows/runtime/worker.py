"""A Prefect worker that outlives its server: python -m flows.runtime.worker, with what `prefect worker start` takes."""

from __future__ import annotations

import sys

from flows.runtime.server_outages import keep_asking_the_server
from flows.runtime.warm_keeper import keep_warm_process


def main() -> None:
    """Start a worker; it ends when it is asked to."""
    from prefect.cli import app

    keep_asking_the_server()
    sys.argv = ["prefect", "worker", "start", *sys.argv[1:]]
    with keep_warm_process() as warm:
        if warm is not None:
            warm.wait()
        app()


if __name__ == "__main__":
    main()
