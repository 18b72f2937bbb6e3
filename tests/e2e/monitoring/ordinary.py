"""An ordinary hour of the sample, in which nothing may alert: python -m tests.e2e.monitoring.ordinary [--minutes 60].

The sample runs on the engine that `docker` talks to, with traffic. Its levels are measured for twenty minutes, a
past of 26 hours is made of them, and then real collections follow each other every 15 s. The end is 1 where
any alert about the sample was sent. Alerts about the machine, on which others may work, are printed and not judged.
"""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from models.metrics import HOST
from models.results import CollectionReport
from tasks.runtime.stores import open_stores
from tests.e2e.monitoring.living import Living, alerts_of, collect_each, own_folder, run, teach_a_past

EVERY = timedelta(seconds=15)


async def live(folder: Path, measure: timedelta, hour: timedelta) -> list[str]:
    """Run the hour; all that is not as expected, in words."""
    sample = Living(environments=folder, name="ordinary")
    try:
        await sample.start(EVERY)
        with sample.traffic():
            first = await _rounds(sample.name, measure)
            reported = teach_a_past(sample.name, first, EVERY, datetime.now(UTC))
            print(
                f"{len(first)} rounds measured; the past that was made of them told: {reported or 'nothing'}",
                flush=True,
            )
            reports = await _rounds(sample.name, hour)
    finally:
        await asyncio.to_thread(sample.clean)
    samples = sum(len(values) for report in reports for values in report.metrics.values())
    alerts = alerts_of(sample.name)
    print(f"{len(reports)} rounds {EVERY.total_seconds():.0f} s apart, {samples} samples, {len(alerts)} alerts")
    words = [f"{one.service} {one.metric} at {one.opened_at:%H:%M:%S}: {one.reason}" for one in alerts]
    for alert, what in zip(alerts, words, strict=True):
        print(f"told of the {'machine' if alert.service == HOST else 'sample'}: {what}")
    said = [f"told in the past: {one}" for one in reported]
    said += [what for alert, what in zip(alerts, words, strict=True) if alert.service != HOST]
    for report in reports:
        said += [f"a gap at {report.timestamp}: {gap}" for gap in report.gaps]
        said += [f"{report.overall_status} at {report.timestamp}"] if report.overall_status != "healthy" else []
    said += [f"an error: {one.text}" for one in open_stores().errors.latest(sample.name) if one.service is not None]
    return said


async def _rounds(name: str, length: timedelta) -> list[CollectionReport]:
    count = round(length / EVERY)
    return await collect_each(name, EVERY, act=True, goes_on=lambda done, _: done < count)


def main() -> list[str]:
    """Run it in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=float, default=20, metavar="MINUTES")
    parser.add_argument("--minutes", type=float, default=60)
    asked = parser.parse_args()
    with own_folder() as folder:
        return asyncio.run(live(folder, timedelta(minutes=asked.measure), timedelta(minutes=asked.minutes)))


if __name__ == "__main__":
    run(main)
