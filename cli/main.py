"""`roas`: the command line.

Commands import what they need themselves: Prefect takes seconds to import, and most commands do not need it.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from cli import completers
from cli.exit_codes import run_command
from cli.options import (
    application_options,
    as_json,
    input_lines,
    of_its_records,
    of_records,
    pool_option,
    quiet,
    read_input,
    resolve_names,
)
from cli.run_flow import flow_run, opened_stores, run_flow, show_answer
from flows.common.terminal import echo
from models.failures import BadInputError, RoasError
from models.settings import CONTROL_PLANE_FILE, current_settings

_EXIT_CODES = """Exit codes: 0 done, or healthy; 1 the answer is bad news: an operation failed, or what was judged is
not well; 2 an argument, option, variable or file cannot be used; 3 a mistake of roas itself, whose traceback is in the
log file that it names; 130 stopped by Ctrl-C. A list (alerts, tickets) exits with 0 whatever it contains, and so does a
difference that `roas drift` or `roas plan` finds, unless --exit-code is given."""


COMMANDS_OF: dict[str, tuple[str, ...]] = {
    "account": ("account",),
    "adopt": ("init", "adopt"),
    "answers": ("webhooks",),
    "enrol": ("join", "leave"),
    "open": ("open",),
    "monitoring": ("alerts", "acknowledge", "predictions", "report"),
    "operations": ("start", "stop", "restart", "health", "rollback", "releases", "validate", "plan", "drift"),
    "patterns": ("classify", "patterns"),
    "recovery": ("watch", "tickets", "resolve", "pause", "unpause", "lock", "unlock"),
    "stores": ("backup", "restore", "db", "archive"),
    **{
        name: (name,)
        for name in (
            *("completion", "doctor", "drill", "fleet", "gate", "history", "host", "logs", "mcp", "notify"),
            *("postmortem", "resume", "sample", "schedule", "schema", "secret", "service", "size"),
            *("snapshot", "sync", "top", "update", "why"),
        )
    },
}
"""Commands by the module that has them, each under its name."""


PURPOSES = {
    "Set up": ("init", "adopt", "doctor", "sample", "schema", "completion", "service"),
    "Deploy": (
        *("validate", "plan", "start", "stop", "restart", "update", "sync"),
        *("releases", "rollback", "resume", "gate", "drift", "size", "lock", "unlock"),
    ),
    "Inspect": (*("open", "status", "top", "health", "history", "why", "logs"), *("report", "stats", "postmortem")),
    "Watch and repair": (
        *("collect", "watch", "alerts", "acknowledge", "predictions", "recover", "pause", "unpause"),
        *("tickets", "resolve", "notify", "webhooks", "drill"),
    ),
    "Data and records": ("snapshot", "schedule", "secret", "backup", "restore", "db", "archive"),
    "Patterns of errors": ("classify", "patterns", "detect"),
    "Servers and hosts": ("serve", "worker", "metrics", "mcp", "account", "fleet", "host", "join", "leave"),
}
"""Commands by their purpose, as --help --all lists them."""

USUAL = frozenset(
    {
        *("init", "doctor", "validate", "plan", "start", "stop", "restart", "update", "rollback"),
        *("open", "status", "top", "health", "history", "why", "logs", "report"),
        *("tickets", "resolve", "pause", "unpause", "snapshot", "serve"),
    }
)
"""What --help lists: the commands of a day."""

OTHER_NAMES = {
    "analyse": "stats",
    "answers": "webhooks",
    # As `docker compose` calls them.
    "down": "stop",
    "ps": "status",
    "up": "start",
    "enrol": "join",
    "lifecycle": "db clean",
    "show": "history --last",
    "stores": "db",
    "ticket": "tickets",
}
"""Other names of commands, former ones too, and what each does; no help lists them."""

_ALL = f"{__name__}.all"


class _Roas(click.Group):
    """A group that imports the module of a command when the command is named, and lists commands by purpose."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note --all first: click shows the help as soon as it reads --help."""
        ctx.meta[_ALL] = "--all" in takewhile(lambda argument: argument.startswith("-"), args)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands with their purpose on one line, below a heading for each group: the usual ones, or all."""
        command_names = self.list_commands(ctx)
        shown = command_names if ctx.meta.get(_ALL) else sorted(USUAL)
        longest = max(map(len, shown))
        for purpose, names in PURPOSES.items():
            rows = [
                (name.ljust(longest), _brief(command, formatter.width - longest - 4))
                for name in names
                if name in shown and (command := self.get_command(ctx, name)) is not None
            ]
            if rows:
                with formatter.section(purpose):
                    formatter.write_dl(rows)
        if more := len(command_names) - len(shown):
            formatter.write_paragraph()
            formatter.write_text(f"And {more} more: roas --help --all")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, by name."""
        return sorted({*self.commands, *(name for names in COMMANDS_OF.values() for name in names)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; where there is none, click looks for similar names among all of them."""
        if cmd_name in OTHER_NAMES:
            return self._by_other_name(ctx, *OTHER_NAMES[cmd_name].split())
        is_known = cmd_name in self.list_commands(ctx)
        for module, names in COMMANDS_OF.items():
            if cmd_name not in self.commands and (cmd_name in names or not is_known):
                for name in names:
                    self.add_command(getattr(import_module(f"cli.{module}"), name))
        return super().get_command(ctx, cmd_name)

    def _by_other_name(self, ctx: click.Context, name: str, *words: str) -> click.Command | None:
        """A command of this name, as if it began with these words: a subcommand or a flag."""
        command = self.get_command(ctx, name)
        for word in words:
            if word.startswith("--") and command is not None:
                command = copy(command)
                command.context_settings = {**command.context_settings, "default_map": {word[2:]: True}}
            elif isinstance(command, click.Group):
                command = command.get_command(ctx, word)
        return command


def _brief(command: click.Command, most: int) -> str:
    """The first sentence of a command's help, up to the last clause that fits on the line."""
    sentence = command.get_short_help_str(limit=1000)
    if len(sentence) <= most:
        return sentence
    # What follows a colon or semicolon details the sentence; a comma may stand within a list.
    for ends in ("[;:] ", ", "):
        if clauses := [match.start() for match in re.finditer(ends, sentence[:most])]:
            return f"{sentence[: clauses[-1]]}."
    return command.get_short_help_str(limit=most)


@click.group(
    cls=_Roas, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EXIT_CODES
)
@click.version_option(package_name="roas-ops", message="roas %(version)s")
@click.option("--all", is_flag=True, expose_value=False, help="With --help: list every command.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The environment's file, or a folder of them; by default ROAS_CONFIG.",
)
def roas(config: Path | None) -> None:
    """Deploy, monitor and recover Docker Compose applications, and record every operation.

    ENV is an environment: deployments/environments/ENV.yaml in a checkout; elsewhere the nearest
    roas.yaml, which is meant without ENV, roas/ENV.yaml, one that was started before, or
    ~/.config/roas/ENV.yaml. `roas init` writes roas.yaml beside a Compose file. Any application
    also runs without one: roas start -f compose.yaml [-p NAME].
    """
    if config is not None:
        # A variable, so that every process which this one starts reads it too.
        os.environ["ROAS_CONFIG"] = str(config.absolute())
    _use_stores_of_control_plane()


def _use_stores_of_control_plane() -> None:
    """On an enrolled host the records are those of its control plane; variables that are set win."""
    settings = current_settings()
    if settings.stores_url is None and os.access(settings.data_dir / CONTROL_PLANE_FILE, os.F_OK):
        from adapters.server.membership import settings_of_member

        os.environ |= settings_of_member(settings)


@roas.command()
@application_options
@quiet
@as_json
def collect(name: str, compose: list[str] | None, only_outcome: bool, json_wanted: bool) -> None:
    """Measure host and services once, evaluate them, and recover failed services."""
    from cli.rendering.results import show_collection

    report = run_flow(flow_run("collect", name, compose_files=compose), only_errors=only_outcome)
    show_answer(report, json_wanted, show_collection)


@roas.command()
@click.argument("environment", shell_complete=completers.environments)
@click.argument("text")
@click.option("--service", help="The service that reported it.", shell_complete=completers.services)
@click.option("--dry-run", is_flag=True, help="Show what would be done; act on nothing.")
@as_json
def recover(environment: str, text: str, service: str | None, dry_run: bool, json_wanted: bool) -> None:
    """Recover from an error: TEXT, or - to read it from standard input."""
    from cli.rendering.results import show_recovery

    error_text = read_input() if text == "-" else text
    if not error_text.strip():
        raise BadInputError("The error's text is empty;", advice="give the message as it was printed.")
    name, compose = resolve_names(environment, (), None)

    async def run() -> Any:
        from flows.recovery.error_recovery import error_recovery
        from tasks.errors.redact import redact

        # The server stores the parameters of a run unredacted.
        text = await redact(name, error_text, tuple(compose or ()))
        return await error_recovery(
            environment=name, text=text, service=service, source="person", act=not dry_run, compose_files=compose
        )

    outcome = run_flow(run)
    show_answer(outcome, json_wanted, show_recovery)
    if not (outcome.success or dry_run):
        sys.exit(1)


@roas.command()
@of_records
@as_json
def status(environment: str | None, json_wanted: bool) -> None:
    """Show the last operation, last health, open errors and tickets."""
    from cli.rendering.results import show_status
    from tasks.reporting.read import read_damage, read_status

    for line in read_damage():
        echo(f"roas: {line}", err=True)
    show_answer(read_status(environment), json_wanted, show_status)


@roas.command()
@of_its_records
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How far to look back.")
@as_json
def stats(environment: str, days: int, json_wanted: bool) -> None:
    """Analyse starts: success per day, durations, significant trends, time to repair, advice."""
    from cli.rendering.monitoring import show_analysis
    from tasks.reporting.read import read_analysis

    show_answer(read_analysis(environment, days, datetime.now(UTC)), json_wanted, show_analysis)


@roas.command()
def serve() -> None:
    """Run the Prefect server, all deployments and the agent, for one machine.

    The agent watches, monitors and heals all environments in one process.
    """
    from flows.agent.serve import serve_all

    serve_all(current_settings())


@roas.command()
@pool_option("Take the flow runs of this work pool too; by default ROAS_WORK_POOL, else none.")
@click.option(
    "--with-healthcheck",
    is_flag=True,
    help="Answer at /health whether flow runs are taken: PREFECT_WORKER_WEBSERVER_HOST and _PORT name the address.",
)
def worker(pool: str | None, with_healthcheck: bool) -> None:
    """Watch, monitor and heal all environments of this host, in one process.

    It needs no Prefect server. With a work pool it takes flow runs from the server of PREFECT_API_URL too, each in a
    process of its own; on an enrolled host that is its control plane, which gets the deployments of its environments.
    """
    from flows.agent.agent_process import run_agent

    settings = current_settings()
    pool = pool or settings.work_pool
    if pool is None:
        from adapters.server.membership import reach_control_plane, read_membership

        if (member := read_membership(settings)) is not None:
            reach_control_plane(member)
            pool = member.pool
    if with_healthcheck and pool is None:
        raise BadInputError("--with-healthcheck is about flow runs, and no work pool is named;", advice="give --pool.")
    run_agent(settings, pool, with_health=with_healthcheck)


@roas.command()
@click.option("--port", type=click.IntRange(1, 65535), help="By default ROAS_METRICS_PORT, else 9108.")
def metrics(port: int | None) -> None:
    """Serve metrics to Prometheus on /metrics."""
    from adapters.prometheus.exporter import serve_metrics

    settings = current_settings()
    at = port or settings.metrics_port
    echo(f"metrics on http://{settings.metrics_host}:{at}/metrics   stop with Ctrl-C", err=True)
    serve_metrics(opened_stores(), settings.metrics_host, at, settings)


@roas.command()
def detect() -> None:
    """Score a series for anomalies: CSV timestamp,value in; timestamp,value,anomaly_score out."""
    from core.monitoring.detector import detect_csv

    for line in detect_csv(input_lines()):
        echo(line)


def main() -> None:
    """Run `roas` and exit the process, with an exit code of cli/exit_codes.py."""
    if completers.VARIABLE in os.environ:
        # A message would be written into the line that the user types.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _keep_prefect_in_data_folder()
    sys.exit(run_command(roas))


def _keep_prefect_in_data_folder() -> None:
    """Let Prefect make its folder in ours, not in the home folder of a user who has none there.

    A user of Prefect keeps the profiles in ~/.prefect; in a checkout nothing changes.
    """
    # A setting that cannot be used is reported by the command.
    with suppress(RoasError, OSError, RuntimeError):
        settings = current_settings()
        if not Path("deployments/environments").is_dir() and not Path("~/.prefect").expanduser().exists():
            os.environ.setdefault("PREFECT_HOME", str(settings.prefect_home / "client"))
