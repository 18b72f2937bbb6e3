"""The page of the exporter's metrics: what it serves on empty stores."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from deployments.docs.reference.markdown import code, page, table


def metrics_page() -> str:
    """Every family of `roas metrics` with its kind, labels and meaning."""
    rows = [(code(name), kind, labels, about) for name, kind, labels, about in sorted(families())]
    return page(
        "Metrics",
        "`roas metrics` serves these on port 9108 (`ROAS_METRICS_PORT`); it reads the stores at each scrape. Figures "
        "of the process (`process_*`) stand beside them, and `roas_cache_up` where there is a cache.",
        table(("metric", "kind", "labels", "meaning"), rows),
    )


def families() -> list[tuple[str, str, str, str]]:
    """Name, kind, labels and meaning of each family of the exporter."""
    from adapters.prometheus.exporter import StoreCollector
    from adapters.stores import Stores
    from models.settings import Settings

    # What it says of new stores is of no use to a reader of the page.
    logging.getLogger("roas").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", environments_dir=Path(folder))
        with Stores.open(settings) as stores:
            metrics = list(StoreCollector(stores, settings).collect())
    return [
        (
            f"{metric.name}_total" if metric.type == "counter" else metric.name,
            metric.type,
            ", ".join(map(code, getattr(metric, "_labelnames", ()))),
            metric.documentation,
        )
        for metric in metrics
    ]
