"""Makes the dashboards of this folder: `python deployments/grafana/make_dashboards.py` writes dashboards/*.json.

Grafana reads the files; this says what is in them, once for all panels of a kind. A panel is a title, what it means,
and what it asks for: pairs of a PromQL expression and the legend of each of its lines.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
UP = {"0": ("down", "red"), "1": ("up", "green")}
HEALTH = {
    "0": ("unknown", "text"),
    "1": ("unhealthy", "red"),
    "2": ("degraded", "orange"),
    "3": ("healthy", "green"),
}
ENVIRONMENT = 'environment=~"$environment"'
SERVICE = 'environment="$environment", service="$service"'
NEWEST = {"calcs": ["lastNotNull"], "fields": "", "values": False}

Query = tuple[str, str]
Panel = dict[str, Any]


def graph(title: str, about: str, *queries: Query, unit: str = "short", width: int = 8, **more: Any) -> Panel:
    """Lines over time. `most` fixes the upper end, `stacked` puts one line on the other."""
    defaults: dict[str, Any] = {"unit": unit}
    if not any(expression.startswith("-") for expression, _ in queries):
        defaults["min"] = 0
    if "most" in more:
        defaults["max"] = more["most"]
    defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if more.get("stacked"):
        defaults["custom"] |= {"fillOpacity": 60, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
    return _panel(
        "timeseries",
        title,
        about,
        queries,
        size=(width, 8),
        defaults=defaults,
        overrides=_bounds() if any("bound" in legend for _, legend in queries) else [],
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def number(
    title: str, about: str, *queries: Query, unit: str = "short", width: int = 4, **steps: float | None
) -> Panel:
    """The value now, on green, and on orange or red from the given steps on."""
    colours = [{"color": "green", "value": None}]
    colours += [{"color": colour, "value": value} for colour, value in steps.items() if value is not None]
    return _panel(
        "stat",
        title,
        about,
        queries,
        size=(width, 5),
        defaults={
            "unit": unit,
            "thresholds": {"mode": "absolute", "steps": colours},
            "color": {"mode": "thresholds"},
            "noValue": "none",
        },
        options={
            "colorMode": "background" if steps else "none",
            "graphMode": "none",
            "textMode": "value_and_name",
            "reduceOptions": NEWEST,
        },
        now=True,
    )


def word(title: str, about: str, *queries: Query, words: dict[str, tuple[str, str]], width: int = 6) -> Panel:
    """What a value stands for, now."""
    panel = number(title, about, *queries, width=width)
    panel["fieldConfig"]["defaults"] |= {"mappings": _mappings(words)}
    panel["options"] |= {"colorMode": "background"}
    return panel


def timeline(title: str, about: str, *queries: Query, words: dict[str, tuple[str, str]], width: int = 12) -> Panel:
    """What a value stood for, over time."""
    return _panel(
        "state-timeline",
        title,
        about,
        queries,
        size=(width, 8),
        defaults={"mappings": _mappings(words), "custom": {"fillOpacity": 70, "lineWidth": 0}},
        options={
            "showValue": "never",
            "mergeValues": True,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        },
    )


def bars(title: str, about: str, *queries: Query, unit: str = "short", width: int = 8) -> Panel:
    """One bar for each, now."""
    return _panel(
        "bargauge",
        title,
        about,
        queries,
        size=(width, 8),
        defaults={"unit": unit, "min": 0, "noValue": "none"},
        options={"displayMode": "basic", "orientation": "horizontal", "reduceOptions": NEWEST},
        now=True,
    )


def dashboard(uid: str, title: str, about: str, rows: dict[str, list[Panel]], *variables: dict[str, Any]) -> Panel:
    """Rows of panels, side by side as far as they fit, with the operations marked in all of them."""
    panels: list[Panel] = []
    below = 0
    for heading, inside in rows.items():
        panels.append({"type": "row", "title": heading, "collapsed": False, "panels": [], "gridPos": _at(0, below)})
        below, left, height = below + 1, 0, 0
        for panel in inside:
            width, own_height = panel.pop("size")
            if left + width > WIDTH:
                left, below, height = 0, below + height, 0
            panels.append(panel | {"gridPos": _at(left, below, width, own_height)})
            left, height = left + width, max(height, own_height)
        below += height
    for place, panel in enumerate(panels, start=1):
        panel["id"] = place
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["roas"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [
            {
                "type": "dashboards",
                "title": "ROAS",
                "tags": ["roas"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": [_marks()]},
        "templating": {"list": [_source(), *variables]},
        "panels": panels,
    }


def variable(name: str, label: str, query: str, *, many: bool) -> dict[str, Any]:
    """What a person chooses above the panels, from what Prometheus knows."""
    made: dict[str, Any] = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"qryType": 1, "query": query, "refId": name},
        "definition": query,
        "hide": 0,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "options": [],
    }
    return made | ({"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}} if many else {"current": {}})


def overview() -> Panel:
    """Is anything wrong, and where?"""
    judged = " + ".join(
        f'{worth} * max by (environment) (roas_environment_health{{{ENVIRONMENT}, health="{health}"}})'
        for worth, health in ((3, "healthy"), (2, "degraded"), (1, "unhealthy"))
    )
    not_wanted = "unless on (environment) roas_environment_wanted == 0"
    return dashboard(
        "roas-overview",
        "ROAS: overview",
        "Every environment at a glance: is anything wrong, and where?",
        {
            "Now": [
                word("Health", "Unknown: nobody could tell lately.", (judged, "{{environment}}"), words=HEALTH),
                number(
                    "Services down",
                    "Do not run, or their probe or health check says no. What was stopped on request is not counted.",
                    (
                        f"sum by (environment) (roas_service_up{{{ENVIRONMENT}}} == bool 0 {not_wanted})",
                        "{{environment}}",
                    ),
                    width=3,
                    red=1,
                ),
                number(
                    "Open alerts",
                    "Causes only; what comes of them is not counted.",
                    (f"sum by (severity) (roas_alerts_open{{{ENVIRONMENT}}})", "{{severity}}"),
                    orange=1,
                ),
                number(
                    "Open errors",
                    "Recorded failures that are not resolved.",
                    (f"sum by (severity) (roas_errors_open{{{ENVIRONMENT}}})", "{{severity}}"),
                    orange=1,
                ),
                number(
                    "Tickets",
                    "What waits for a person.",
                    (f"sum by (state) (roas_tickets_open{{{ENVIRONMENT}}})", "{{state}}"),
                    width=3,
                    orange=1,
                ),
                number(
                    "Seen alive",
                    "Time since collection and watch were last seen going on.",
                    (f"time() - roas_heartbeat_timestamp_seconds{{{ENVIRONMENT}}}", "{{name}} {{environment}}"),
                    unit="s",
                    orange=300,
                    red=900,
                ),
            ],
            "Environments": [
                timeline("Health over time", "As the collection judged it.", (judged, "{{environment}}"), words=HEALTH),
                timeline(
                    "Services",
                    "Up while a service runs and nothing says it is ill.",
                    (f"roas_service_up{{{ENVIRONMENT}}}", "{{environment}}/{{service}}"),
                    words=UP,
                ),
                graph(
                    "Health scores",
                    "0 to 100, over the last three days: uptime, performance, errors, dependencies.",
                    (f"roas_service_score_points{{{ENVIRONMENT}}}", "{{environment}}/{{service}}"),
                    most=100,
                ),
                graph(
                    "Open alerts over time",
                    "Causes, by severity; what comes of them is not counted.",
                    (
                        f"sum by (environment, severity) (roas_alerts_open{{{ENVIRONMENT}}})",
                        "{{environment}} {{severity}}",
                    ),
                    stacked=True,
                ),
                timeline(
                    "Dependencies",
                    "Up while what a service needs is there.",
                    (
                        f"roas_dependency_up{{{ENVIRONMENT}}}",
                        "{{environment}}/{{service}} needs {{depends_on}} ({{dependency_type}})",
                    ),
                    words=UP,
                    width=8,
                ),
            ],
            "All services": [
                graph(
                    "Processors in use",
                    "1 is one whole processor.",
                    (f"roas_service_cpu_ratio{{{ENVIRONMENT}}}", "{{environment}}/{{service}}"),
                ),
                graph(
                    "Memory",
                    "In use, as the kernel counts it for the container.",
                    (f"roas_service_memory_bytes{{{ENVIRONMENT}}}", "{{environment}}/{{service}}"),
                    unit="bytes",
                ),
                graph(
                    "Answers",
                    "How long the answer to each service's probe took.",
                    (f"roas_service_response_seconds{{{ENVIRONMENT}}}", "{{environment}}/{{service}}"),
                    unit="s",
                ),
                graph(
                    "Restarts within 15 minutes",
                    "By the engine, because the process ended.",
                    (f"increase(roas_service_restarts_total{{{ENVIRONMENT}}}[15m])", "{{environment}}/{{service}}"),
                    width=12,
                ),
                graph(
                    "Network",
                    "Received is above zero, sent below.",
                    (
                        f"rate(roas_service_network_receive_bytes_total{{{ENVIRONMENT}}}[$__rate_interval])",
                        "{{environment}}/{{service}} in",
                    ),
                    (
                        f"-rate(roas_service_network_transmit_bytes_total{{{ENVIRONMENT}}}[$__rate_interval])",
                        "{{environment}}/{{service}} out",
                    ),
                    unit="Bps",
                    width=12,
                ),
            ],
        },
        _environments(),
    )


def one_service() -> Panel:
    """What is this service doing, and is that usual?"""
    return dashboard(
        "roas-service",
        "ROAS: one service",
        "What a service does, against what is usual for it. Dashed: usual, and where warning and critical begin.",
        {
            "Now": [
                timeline(
                    "State",
                    "Up while nothing says it is ill.",
                    (f"roas_service_up{{{SERVICE}}}", "up"),
                    words=UP,
                    width=9,
                ),
                number(
                    "Score",
                    "0 to 100; few looks prove little, so its bounds stand beside it.",
                    (f"roas_service_score_points{{{SERVICE}}}", "score"),
                    (f"roas_service_score_bound_points{{{SERVICE}}}", "{{bound}}"),
                    width=5,
                ),
                number(
                    "Alerts",
                    "Open alerts of this service, with those that another one explains.",
                    (f"sum by (severity) (roas_service_alerts_open{{{SERVICE}}}) or on () vector(0)", "{{severity}}"),
                    width=5,
                    orange=1,
                ),
                number(
                    "Restarts",
                    "Of the running containers, by the engine.",
                    (f"roas_service_restarts_total{{{SERVICE}}}", "since created"),
                    width=5,
                    orange=1,
                ),
            ],
            "Against what is usual": [
                graph(
                    "Processors in use",
                    "1 is one whole processor.",
                    (f"roas_service_cpu_ratio{{{SERVICE}}}", "now"),
                    (f"roas_service_cpu_baseline_ratio{{{SERVICE}}}", "bound: {{bound}}"),
                ),
                graph(
                    "Memory of its limit",
                    "At 100 % the kernel kills it.",
                    (f"roas_service_memory_ratio{{{SERVICE}}}", "now"),
                    (f"roas_service_memory_baseline_ratio{{{SERVICE}}}", "bound: {{bound}}"),
                    unit="percentunit",
                ),
                graph(
                    "Answer to its probe",
                    "How long it took.",
                    (f"roas_service_response_seconds{{{SERVICE}}}", "now"),
                    (f"roas_service_response_baseline_seconds{{{SERVICE}}}", "bound: {{bound}}"),
                    unit="s",
                ),
            ],
            "Health": [
                timeline(
                    "Judged as",
                    "The word the collection found for it.",
                    (f"roas_service_health{{{SERVICE}}}", "{{health}}"),
                    words={"0": ("no", "transparent"), "1": ("yes", "blue")},
                ),
                timeline(
                    "Probes",
                    "Whether every probe of a kind was answered well.",
                    (f"roas_probe_up{{{SERVICE}}}", "{{kind}}"),
                    words=UP,
                ),
                graph(
                    "Parts of the score",
                    "What it is made of; a part without data is not there.",
                    (f"roas_service_score_part_points{{{SERVICE}}}", "{{part}}"),
                    most=100,
                ),
                timeline(
                    "Needs, and is needed by",
                    "Up while what is needed is there.",
                    (f"roas_dependency_up{{{SERVICE}}}", "needs {{depends_on}} ({{dependency_type}})"),
                    (
                        'roas_dependency_up{environment="$environment", depends_on="$service"}',
                        "is needed by {{service}} ({{dependency_type}})",
                    ),
                    words=UP,
                    width=8,
                ),
                graph(
                    "Latency by kind of probe",
                    "The slowest answer of each kind.",
                    (f"roas_probe_latency_seconds{{{SERVICE}}}", "{{kind}}"),
                    unit="s",
                ),
            ],
            "Resources": [
                graph("Memory", "In use.", (f"roas_service_memory_bytes{{{SERVICE}}}", "memory"), unit="bytes"),
                graph(
                    "Processor time",
                    "Processors in use over the interval, from the kernel's own count.",
                    (f"rate(roas_service_cpu_seconds_total{{{SERVICE}}}[$__rate_interval])", "processors"),
                ),
                graph(
                    "Throttling",
                    "Periods a second in which its limit denied it the processor.",
                    (f"rate(roas_service_throttled_periods_total{{{SERVICE}}}[$__rate_interval])", "periods"),
                ),
                graph(
                    "Network",
                    "Received is above zero, sent below.",
                    (f"rate(roas_service_network_receive_bytes_total{{{SERVICE}}}[$__rate_interval])", "in"),
                    (f"-rate(roas_service_network_transmit_bytes_total{{{SERVICE}}}[$__rate_interval])", "out"),
                    unit="Bps",
                ),
                graph(
                    "Block devices",
                    "Read is above zero, written below.",
                    (f"rate(roas_service_block_read_bytes_total{{{SERVICE}}}[$__rate_interval])", "read"),
                    (f"-rate(roas_service_block_written_bytes_total{{{SERVICE}}}[$__rate_interval])", "written"),
                    unit="Bps",
                ),
                graph("Processes", "With their threads.", (f"roas_service_processes{{{SERVICE}}}", "processes")),
            ],
        },
        variable("environment", "Environment", "label_values(roas_service_up, environment)", many=False),
        variable(
            "service", "Service", 'label_values(roas_service_up{environment="$environment"}, service)', many=False
        ),
    )


def operations() -> Panel:
    """What was done, how did it end, and what did recovery do?"""
    deployed = f'{ENVIRONMENT}, operation_type!="health_check"'
    good = f'sum by (environment) (increase(roas_operations_total{{{deployed}, status="success"}}[1d]))'
    every = f"sum by (environment) (increase(roas_operations_total{{{deployed}}}[1d]))"
    took = f'increase(roas_operation_duration_seconds_bucket{{{ENVIRONMENT}, status="success"}}[1d])'
    recovered = f"increase(roas_recovery_duration_seconds_bucket{{{ENVIRONMENT}}}[1d])"
    tried = f"sum by (strategy, success) (increase(roas_recoveries_total{{{ENVIRONMENT}}}[1d]))"
    told_for, told = (
        f"sum by (severity) (increase(roas_alert_duration_seconds_{part}{{{ENVIRONMENT}}}[1d]))"
        for part in ("sum", "count")
    )
    repair = " / ".join(
        f"sum by (environment) (increase(roas_error_duration_seconds_{part}{{{ENVIRONMENT}}}[1d]))"
        for part in ("sum", "count")
    )
    return dashboard(
        "roas-operations",
        "ROAS: operations and recovery",
        "What was done, how it ended, and what was done about failures.",
        {
            "Operations": [
                graph(
                    "Operations within an hour",
                    "That ended, by how.",
                    (
                        f"sum by (operation_type, status) (increase(roas_operations_total{{{ENVIRONMENT}}}[1h]))",
                        "{{operation_type}} {{status}}",
                    ),
                ),
                graph(
                    "Success within a day",
                    "Starts, stops and restarts. Few prove little: `roas analyse` shows the interval.",
                    (f"{good} / ({every} > 0)", "{{environment}}"),
                    unit="percentunit",
                    most=1,
                ),
                graph(
                    "How long operations take",
                    "Successful ones, within a day.",
                    (f"histogram_quantile(0.5, sum by (le, operation_type) ({took}))", "{{operation_type}} median"),
                    (f"histogram_quantile(0.95, sum by (le, operation_type) ({took}))", "{{operation_type}} p95"),
                    unit="s",
                ),
                graph(
                    "Running now",
                    "Operations that have not ended.",
                    (
                        f"sum by (environment, operation_type) (roas_operations_running{{{ENVIRONMENT}}})",
                        "{{environment}} {{operation_type}}",
                    ),
                    width=12,
                ),
                timeline(
                    "Meant to run",
                    "No, where the last thing asked for was a stop.",
                    (f"roas_environment_wanted{{{ENVIRONMENT}}}", "{{environment}}"),
                    words={"0": ("stopped on request", "text"), "1": ("yes", "green")},
                ),
            ],
            "Errors": [
                graph(
                    "Open errors",
                    "Recorded failures that are not resolved.",
                    (
                        f"sum by (environment, severity) (roas_errors_open{{{ENVIRONMENT}}})",
                        "{{environment}} {{severity}}",
                    ),
                    stacked=True,
                ),
                bars(
                    "Causes of open errors",
                    "What they were judged to come from.",
                    (f"sum by (category) (roas_error_causes_open{{{ENVIRONMENT}}}) or on () vector(0)", "{{category}}"),
                ),
                graph(
                    "Time to repair",
                    "Mean of the errors resolved within a day, by a recovery or a person.",
                    (repair, "{{environment}}"),
                    unit="s",
                ),
            ],
            "Recovery": [
                graph(
                    "Recoveries within a day",
                    "By what was tried, and whether it helped.",
                    (f"{tried} > 0 or on () vector(0)", "{{strategy}} worked: {{success}}"),
                ),
                graph(
                    "How long recoveries take",
                    "Until the service was proven, or given up.",
                    (f"histogram_quantile(0.5, sum by (le, success) ({recovered}))", "worked: {{success}}, median"),
                    (f"histogram_quantile(0.95, sum by (le, success) ({recovered}))", "worked: {{success}}, p95"),
                    unit="s",
                ),
                graph(
                    "Tickets",
                    "What waits for a person.",
                    (f"sum by (environment, state) (roas_tickets_open{{{ENVIRONMENT}}})", "{{environment}} {{state}}"),
                    stacked=True,
                ),
                number(
                    "Oldest ticket",
                    "How long it has waited.",
                    (f"time() - roas_ticket_oldest_timestamp_seconds{{{ENVIRONMENT}}}", "{{environment}}"),
                    unit="s",
                    width=6,
                    orange=900,
                    red=86400,
                ),
                number(
                    "Recovery switched off",
                    "Pauses in force (`roas pause`).",
                    ("roas_recovery_pauses", "pauses"),
                    width=6,
                    orange=1,
                ),
                number(
                    "Alerts open for",
                    "Mean of the alerts that ended within a day.",
                    (f"{told_for} / ({told} > 0)", "{{severity}}"),
                    unit="s",
                    width=12,
                ),
            ],
            "Predictions": [
                number(
                    "Time to limits",
                    "When a metric is expected to be full, and the ends of the 80 % interval.",
                    (
                        f"roas_prediction_timestamp_seconds{{{ENVIRONMENT}}} - time()",
                        "{{service}} {{metric}} {{bound}}",
                    ),
                    unit="s",
                    width=12,
                ),
                graph(
                    "What became of predictions",
                    "Since the exporter began: came true, did not, turned back before.",
                    (f"sum by (outcome) (roas_predictions_scored_total{{{ENVIRONMENT}}})", "{{outcome}}"),
                    (f"sum(roas_predictions_open{{{ENVIRONMENT}}})", "stand"),
                    width=12,
                ),
            ],
        },
        _environments(),
    )


def system() -> Panel:
    """Are the machine, the stores and the watchers themselves well?"""
    host = [
        graph(
            title,
            "Of the machine, as the environment's collection sees it.",
            (f"roas_host_{name}_ratio{{{ENVIRONMENT}}}", "{{environment}}"),
            (f"roas_host_{name}_baseline_ratio{{{ENVIRONMENT}}}", "{{environment}} bound: {{bound}}"),
            unit="percentunit",
            width=6,
        )
        for title, name in (("Processor", "cpu"), ("Memory", "memory"), ("Disk", "disk"), ("Inodes", "inodes"))
    ]
    return dashboard(
        "roas-system",
        "ROAS: stores and the system itself",
        "The machine, the stores, and whether those who watch are watched.",
        {
            "Who watches": [
                number(
                    "Seen alive",
                    "Time since collection and watch were last seen going on.",
                    (f"time() - roas_heartbeat_timestamp_seconds{{{ENVIRONMENT}}}", "{{name}} {{environment}}"),
                    unit="s",
                    width=6,
                    orange=300,
                    red=900,
                ),
                word(
                    "Exporter", "Whether Prometheus reaches it.", ('up{job="roas"}', "{{instance}}"), words=UP, width=3
                ),
                word(
                    "Stores readable",
                    "One that cannot be read leaves its figures out; the others are shown.",
                    ("roas_store_readable", "{{store}}"),
                    words={"0": ("no", "red"), "1": ("yes", "green")},
                    width=6,
                ),
                word("Cache", "Redis, where there is one.", ("roas_cache_up", "cache"), words=UP, width=3),
                number("Version", "Of this program.", ("roas_build_info", "{{version}}"), width=3),
                number(
                    "Rows refused",
                    "By the stores; kept with the reason.",
                    ("roas_store_dead_letters", "{{store}}"),
                    width=3,
                    orange=1,
                ),
                graph(
                    "Silence over time",
                    "How old the last sign of life was.",
                    (f"time() - roas_heartbeat_timestamp_seconds{{{ENVIRONMENT}}}", "{{name}} {{environment}}"),
                    unit="s",
                ),
                graph(
                    "A scrape",
                    "Reading the stores, and the whole answer.",
                    ("roas_exporter_collect_seconds", "reading"),
                    ('scrape_duration_seconds{job="roas"}', "whole"),
                    unit="s",
                ),
                graph(
                    "The exporter itself",
                    "Its memory.",
                    ('process_resident_memory_bytes{job="roas"}', "memory"),
                    unit="bytes",
                ),
            ],
            "Stores": [
                graph(
                    "Size", "Of each store and its log.", ("roas_store_size_bytes", "{{store}} {{file}}"), unit="bytes"
                ),
                graph(
                    "Room",
                    "On the disk of the stores.",
                    ("roas_store_disk_free_bytes", "free"),
                    ("roas_store_disk_size_bytes", "size"),
                    unit="bytes",
                ),
                graph(
                    "Age",
                    "Of the oldest row in each store: what is older is archived.",
                    ("time() - roas_store_oldest_timestamp_seconds", "{{store}}"),
                    unit="s",
                ),
                graph(
                    "Rows that wait",
                    "Accepted, and not in the store yet.",
                    ("roas_store_spool_bytes", "{{store}}"),
                    unit="bytes",
                ),
                graph(
                    "Writers that waited",
                    "Times a second that one of this host waited for its turn.",
                    ("rate(roas_store_lock_waits_total[$__rate_interval])", "waits"),
                ),
                graph(
                    "Time they waited",
                    "Share of the time.",
                    ("rate(roas_store_lock_wait_seconds_total[$__rate_interval])", "waiting"),
                    unit="percentunit",
                ),
            ],
            "Machine": [
                *host,
                graph(
                    "Pressure",
                    "Share of 10 s in which work waited.",
                    (f"roas_host_pressure_cpu_ratio{{{ENVIRONMENT}}}", "{{environment}} for a processor"),
                    (f"roas_host_pressure_memory_ratio{{{ENVIRONMENT}}}", "{{environment}} for memory"),
                    (f"roas_host_pressure_io_ratio{{{ENVIRONMENT}}}", "{{environment}} for a device"),
                    unit="percentunit",
                ),
                graph(
                    "Load",
                    "Processes that run or wait.",
                    (f"roas_host_load1{{{ENVIRONMENT}}}", "{{environment}} 1 minute"),
                    (f"roas_host_load5{{{ENVIRONMENT}}}", "{{environment}} 5 minutes"),
                ),
                graph(
                    "Network",
                    "Received is above zero, sent below.",
                    (
                        f"rate(roas_host_network_receive_bytes_total{{{ENVIRONMENT}}}[$__rate_interval])",
                        "{{environment}} in",
                    ),
                    (
                        f"-rate(roas_host_network_transmit_bytes_total{{{ENVIRONMENT}}}[$__rate_interval])",
                        "{{environment}} out",
                    ),
                    unit="Bps",
                ),
            ],
        },
        _environments(),
    )


def _panel(
    kind: str,
    title: str,
    about: str,
    queries: tuple[Query, ...],
    *,
    size: tuple[int, int],
    defaults: dict[str, Any],
    options: dict[str, Any],
    overrides: list[dict[str, Any]] | None = None,
    now: bool = False,
) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "size": size,
        "targets": [
            {
                "refId": letter,
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "range": not now,
                "instant": now,
            }
            for letter, (expression, legend) in zip(string.ascii_uppercase, queries, strict=False)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": overrides or []},
        "options": options,
    }


def _at(left: int, below: int, width: int = WIDTH, height: int = 1) -> dict[str, int]:
    return {"x": left, "y": below, "w": width, "h": height}


def _mappings(words: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    options = {
        value: {"text": text, "color": colour, "index": place}
        for place, (value, (text, colour)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


def _bounds() -> list[dict[str, Any]]:
    """What is usual is dashed, and warning and critical have their colours."""
    colours = {"usual": "blue", "warning": "orange", "critical": "red"}
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/bound: {bound}$/"},
            "properties": [
                {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}},
                {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                {"id": "custom.fillOpacity", "value": 0},
            ],
        }
        for bound, colour in colours.items()
    ]


def _marks() -> dict[str, Any]:
    """Deployments as lines in every graph: most of what changes, changes then."""
    return {
        "name": "Operations",
        "enable": True,
        "iconColor": "blue",
        "datasource": SOURCE,
        "expr": (
            "sum by (environment, operation_type, status) (increase(roas_operations_total{"
            'environment=~"$environment", operation_type!="health_check"}[1m])) > 0'
        ),
        "step": "60s",
        "titleFormat": "{{operation_type}} of {{environment}}",
        "textFormat": "{{status}}",
    }


def _source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {},
    }


def _environments() -> dict[str, Any]:
    return variable("environment", "Environment", "label_values(roas_environment_health, environment)", many=True)


def made() -> dict[str, str]:
    """The text of each file, by its name."""
    dashboards = (overview(), one_service(), operations(), system())
    return {f"{one['uid']}.json": json.dumps(one, indent=1, ensure_ascii=False) + "\n" for one in dashboards}


if __name__ == "__main__":
    for name, text in made().items():
        (FOLDER / name).write_text(text)
