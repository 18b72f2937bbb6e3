"""Five faults of the running sample, one alert each: python -m tests.e2e.monitoring.faults [words of their names].

The sample runs on the engine that `docker` talks to, with traffic. Its levels are measured, a past of 26 hours is
made of them, and each fault meets that same past: some ordinary rounds, then the fault, with a real collection every
10 s. Printed is the trail of rows: the samples, the alert with its reason, the error. Recovery only judges here and
does not act, so that a fault lasts. Alerts about the machine, on which others may work, are printed and not judged.
The end is 1 where anything is not as expected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis

from models.errors import RecordedError
from models.metrics import HOST, Alert
from models.results import CollectionReport
from tasks.monitoring.collect import ALERT_STREAM
from tasks.runtime.stores import open_stores
from tests.e2e.healing.scenes import PASSWORD
from tests.e2e.monitoring.living import Living, alerts_of, collect_each, own_folder, run, teach_a_past
from tests.integration.adapters.test_redis_cache import PASSWORD as REDIS_PASSWORD
from tests.integration.adapters.test_redis_cache import RedisProcess
from tests.support.store_rows import series

EVERY = timedelta(seconds=10)
MEASURED_ROUNDS = 18
QUIET_ROUNDS = 3
LONGEST_ROUNDS = 40
MORE_ROUNDS = 8
"""After the alert: a second one would have come by then."""

_LEAK = """
import os, time
open("/tmp/leak", "w").write(str(os.getpid()))
held = []
while True:
    if len(held) < 55:
        held.append(b"x" * 2**20)
    time.sleep(0.5)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: how it begins and ends, what its alert is about, and what a person must read in the reason."""

    name: str
    service: str
    metric: str
    begin: Callable[[Living], object]
    end: Callable[[Living], object]
    says: str
    flaps: bool = False


def _fail(mode: str) -> Callable[[Living], object]:
    return lambda sample: sample.inside("bot", "fail", mode)


FAULTS = (
    Fault(
        name="a memory leak",
        service="bot",
        metric="memory_usage",
        begin=lambda sample: sample.docker("exec", "--detach", sample.container("bot"), "python3", "-c", _LEAK),
        end=lambda sample: sample.inside("bot", "sh", "-c", "kill $(cat /tmp/leak)"),
        says=r"memory usage [\d.]+ %, never above [\d.]+ % in one day",
    ),
    Fault(
        name="a processor hog",
        service="bot",
        metric="cpu_usage",
        begin=_fail("burn"),
        end=_fail("none"),
        says=r"CPU usage [\d.]+ %, never above [\d.]+ % in one day",
    ),
    Fault(
        name="a slow Redis",
        service="redis",
        metric="response_time",
        begin=lambda sample: sample.docker(
            *("exec", "--detach", "--env", f"REDISCLI_AUTH={PASSWORD}", sample.container("redis")),
            *("sh", "-c", "echo $$ > /tmp/slow; exec redis-cli -r -1 debug sleep 0.8"),
        ),
        end=lambda sample: sample.inside("redis", "sh", "-c", "kill $(cat /tmp/slow)"),
        says=r"response time (is )?\d+ ms, ",
    ),
    Fault(
        name="a flapping health check",
        service="bot",
        metric="health",
        begin=_fail("flapping"),
        end=_fail("none"),
        says=r"its own health check|failed: /healthz answered 503",
        flaps=True,
    ),
    # The last one: what the bot says of it stays in its log, and would be taken for the cause of the next.
    Fault(
        name="a stopped Redis",
        service="redis",
        metric="health",
        begin=lambda sample: sample.docker("stop", sample.container("redis")),
        end=lambda sample: sample.docker("start", sample.container("redis")),
        says=r"exited with code \d+",
    ),
)


async def meet(fault: Fault, sample: Living) -> list[str]:
    """Let the sample, whose past is taught, have the fault; all that is not as expected, in words."""
    quiet = await collect_each(sample.name, EVERY, act=False, goes_on=lambda done, _: done < QUIET_ROUNDS)
    before = [f"before it: {one}" for report in quiet for one in report.alerts if f" {HOST}: " not in one]
    began = datetime.now(UTC)
    await asyncio.to_thread(fault.begin, sample)
    reported_at: list[int] = []

    def goes_on(done: int, _: CollectionReport) -> bool:
        reported = [str(one["change"]) for one in _changes(began)]
        if ("flapping" if fault.flaps else "opened") in reported and not reported_at:
            reported_at.append(done)
        return done < (reported_at[0] + MORE_ROUNDS if reported_at else LONGEST_ROUNDS)

    reports = await collect_each(sample.name, EVERY, act=False, goes_on=goes_on)
    await asyncio.to_thread(fault.end, sample)
    alerts = [one for one in alerts_of(sample.name) if one.opened_at >= began]
    errors = [one for one in open_stores().errors.latest(sample.name) if one.service is not None]
    _print(fault, sample, began, alerts, errors)
    reported = ", ".join(
        f"{one['change']} {one['alert']['service']} {one['alert']['metric']}" for one in _changes(began)
    )
    print(f"  {len(reports)} rounds, told: {reported or 'nothing'}", flush=True)
    return before + _complaints(fault, sample, began, alerts, errors)


def _changes(since: datetime) -> list[dict[str, Any]]:
    """What people were told of the sample, oldest first."""
    with Redis.from_url(os.environ["ROAS_REDIS_URL"]) as client:
        reported = [json.loads(fields[b"entry"]) for _, fields in client.xrange(f"roas:{ALERT_STREAM}")]
    return [one for one in reported if _moment(one) >= since and one["alert"]["service"] != HOST]


def _moment(entry: dict[str, object]) -> datetime:
    return datetime.fromisoformat(str(entry["at"]))


def _complaints(
    fault: Fault, sample: Living, began: datetime, alerts: Sequence[Alert], errors: Sequence[RecordedError]
) -> list[str]:
    reported = [one for one in alerts if one.explained_by is None and one.service != HOST]
    if len(reported) != 1:
        return [f"{len(reported)} alerts: {[(one.service, one.metric, one.reason) for one in reported]}"]
    alert, said = reported[0], []
    if (alert.service, alert.metric) != (fault.service, fault.metric):
        said.append(f"it blames {alert.service} {alert.metric}")
    if not re.search(fault.says, alert.reason, re.IGNORECASE):
        said.append(f"the reason is {alert.reason!r}")
    changes = _changes(began)
    expected = ["opened", "flapping"] if fault.flaps else ["opened"]
    if [str(one["change"]) for one in changes if one["change"] != "raised"] != expected:
        said.append(f"told: {changes}")
        return said
    opened: dict[str, Any] = changes[0]["alert"]
    if opened["value"] is not None and opened["value"] not in _samples(fault, sample, began).values():
        said.append(f"its value {opened['value']} is in no sample")
    of_alert = [one for one in errors if one.service == alert.service and opened["reason"] in one.text]
    blamed = {one.service for one in errors}
    # Recovery gets an unhealthy service at its first bad collection, before that is enough for an alert.
    if blamed != {alert.service} or not of_alert or of_alert[0].first_seen < began:
        said.append(f"errors: {[(one.service, one.text) for one in errors]}")
    return said


def _samples(fault: Fault, sample: Living, since: datetime) -> dict[datetime, float]:
    return dict(series(open_stores(), sample.name, fault.service, fault.metric, since))


def _print(
    fault: Fault, sample: Living, began: datetime, alerts: Sequence[Alert], errors: Sequence[RecordedError]
) -> None:
    print(f"\n{fault.name}, from {began:%H:%M:%S} on")
    for at, value in _samples(fault, sample, began - QUIET_ROUNDS * EVERY).items():
        print(f"  sample {at:%H:%M:%S} {fault.service} {fault.metric} {value:.1f}")
    for one in alerts:
        root = f" (comes of {one.explained_by})" if one.explained_by else ""
        print(f"  alert  {one.opened_at:%H:%M:%S} {one.alert_id} {one.severity} {one.service} {one.metric}{root}")
        print(f"         {one.reason}")
    for error in errors:
        print(
            f"  error  {error.first_seen:%H:%M:%S} {error.error_id} {error.service}, {error.count} times: {error.text}"
        )


async def live(folder: Path, faults: Sequence[Fault]) -> list[str]:
    """Let the sample learn its past once, and meet each fault with it; all that is not as expected."""
    sample, redis = Living(environments=folder, name="faults"), RedisProcess(folder)
    taught = folder / "data"
    redis.start()
    os.environ["ROAS_REDIS_URL"] = f"redis://:{quote(REDIS_PASSWORD)}@127.0.0.1:{redis.port}/0"
    try:
        await sample.start(EVERY)
        with sample.traffic():
            measured = await collect_each(sample.name, EVERY, act=False, goes_on=lambda done, _: done < MEASURED_ROUNDS)
            said = [f"the past: {one}" for one in teach_a_past(sample.name, measured, EVERY, datetime.now(UTC))]
            open_stores().close()
            for number, fault in enumerate(faults):
                own = folder / f"data-{number}"
                shutil.copytree(taught, own)
                os.environ["ROAS_DATA_DIR"] = str(own)
                said += [f"{fault.name}: {one}" for one in await meet(fault, sample)]
                await asyncio.to_thread(sample.wait_until_well)
    finally:
        await asyncio.to_thread(sample.clean)
        redis.stop()
    return said


def main() -> list[str]:
    """Meet the faults that are asked for in a folder of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    asked = parser.parse_args()
    faults = [one for one in FAULTS if not asked.words or any(word in one.name for word in asked.words)]
    with own_folder() as folder:
        return asyncio.run(live(folder, faults))


if __name__ == "__main__":
    run(main)
