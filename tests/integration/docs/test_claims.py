"""Claims of the documents: what a page says of a limit, a place, a default, a name or an exit code is so.

Each claim is words of a page, what the program has, and what the words mean. A page that is written anew fails here
until its claim is: change both together.
"""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import click
import pytest
import yaml

from adapters.config.yaml_files import DEPTH, VALUES
from adapters.host.private_files import MIB
from adapters.host.warm_client import SWITCH
from adapters.notifications.answer_keys import answer_key
from adapters.server.credentials import server_credentials
from adapters.snapshots import restic
from adapters.stores import Stores
from adapters.stores.migrate import STORES
from cli import entry, exit_codes
from cli.main import roas
from cli.mcp import OPERATIONS
from cli.mcp_answers import PROMPTS
from cli.mcp_tools import READING_TOOLS
from core.deployment.canary import IN_A_ROW, UNHEALTHY_IN_A_ROW
from core.deployment.interruption import GRACE
from core.deployment.plan import start_deadline
from core.deployment.verify import CRASHES_TOLERATED
from core.notifications.answers import PAUSED_FOR, VALID_FOR
from core.notifications.due import FIRST_REMINDER, REMINDER
from core.recovery.policy import AT_ONCE, PROVEN_AFTER, backoff
from core.recovery.states import RecoveryState
from core.recovery.tracker import LOOP
from core.recovery.triage import LOOP_WITHIN
from deployments.docs.reference.commands import context_of
from flows.recovery.approve import WAITS
from flows.recovery.watch import SWEEP
from models.compose import ServiceDeclaration
from models.containers import RELEASE_IMAGES
from models.environments import Environment, NetworkProbe, RecoveryPolicy
from models.hooks import Hook
from models.hosts import SILENT_AFTER
from models.settings import Settings
from models.snapshots import KeepSnapshots
from models.storage import RetentionPolicy
from tasks.deployment.lease import LEASE
from tests.integration.docs.command_lines import roas_command
from tests.integration.docs.documents import text_of
from tests.support.commands import quiet_environment, run_roas_text
from tests.support.tiers import SHARDS

README, RUNBOOK = "README.md", "docs/runbook.md"
ARCHITECTURE, SECURITY, MCP = "docs/architecture.md", "docs/security.md", "docs/mcp.md"
PROVEN, JUDGED = "docs/explanation/how-a-start-is-proven.md", "docs/explanation/how-a-failure-is-judged.md"
RECORD = "docs/explanation/what-the-record-promises.md"
CI, DISK = "docs/how-to/use-in-ci.md", "docs/how-to/limit-the-use-of-disk.md"
DATA, HOOKS = "docs/how-to/save-data-before-an-update.md", "docs/how-to/run-migrations-and-smoke-tests.md"
CHAT, WATCH = "docs/how-to/notify-a-chat.md", "docs/how-to/watch-and-heal.md"
HANGS, UPDATES = "docs/how-to/find-out-why-a-start-hangs.md", "docs/how-to/update-images.md"

ENVIRONMENT = Environment(name="shop", project="shop", compose_files=(Path("/srv/shop/compose.yaml"),))
REPORTING = (
    "alerts archive_list classify db_check doctor drift gate health history logs patterns_list plan predictions "
    "releases snapshot_list stats status tickets validate why"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocClaim:
    """Words of a page; `has` is what the program has, in the folder of a test, and `means` what the words mean."""

    page: str
    words: str
    has: Callable[[Path], Any]
    means: Any = True


def command_ends(folder: Path, *words: str) -> tuple[int, str]:
    """The exit code and standard output of a command in a folder with nothing in it."""
    done = run_roas_text(*words, cwd=folder, env=quiet_environment() | {"ROAS_DATA_DIR": str(folder / "data")})
    return done.returncode, done.stdout


def option(words: str, name: str) -> click.Parameter:
    command, _ = roas_command(words.split())
    return next(parameter for parameter in command.params if name in (*parameter.opts, parameter.name))


def choices(words: str, name: str) -> set[str]:
    kind = option(words, name).type
    assert isinstance(kind, click.Choice)
    return set(kind.choices)


def default_of(model: Any, name: str) -> Any:
    return model.model_fields[name].default


def kinds(union: Any) -> set[str]:
    """The values of `kind` that a union of models takes."""
    models = [model for model in _members(union) if hasattr(model, "model_fields")]
    return {value for model in models for value in get_args(model.model_fields["kind"].annotation)}


def _members(union: Any) -> list[Any]:
    members = get_args(union)
    is_union = isinstance(union, UnionType) or bool(members)
    return [one for member in members for one in _members(member)] if is_union else [union]


def modes(folder: Path) -> set[str]:
    """The modes of everything in a data folder with stores."""
    Stores.open(Settings(data_dir=folder / "data")).close()
    paths = [folder / "data", *(folder / "data").rglob("*")]
    return {f"{'folder' if path.is_dir() else 'file'} {stat.S_IMODE(path.stat().st_mode):o}" for path in paths}


def default_places(folder: Path) -> str:
    """Where the data folder is for somebody who has no checkout."""
    variables = {"HOME": str(folder), "XDG_DATA_HOME": ""}
    done = run_roas_text("db", "check", "--json", cwd=folder, env=quiet_environment() | variables)
    assert done.returncode in (exit_codes.SUCCESS, exit_codes.FAILED), done.stdout + done.stderr
    return ", ".join(str(file.parent.relative_to(folder)) for file in folder.rglob("errors.db"))


def error_document(folder: Path) -> set[str]:
    _, said = command_ends(folder, "why", "nosuch", "--json")
    return set(json.loads(said))


def unexpected_log(folder: Path) -> str:
    """Where the traceback of an unexpected error is kept, and the file's mode."""

    command = "click.Command('breaks', callback=lambda: 1 / 0)"
    program = f"import click, cli.exit_codes; exit(cli.exit_codes.run_command({command}))"
    variables = quiet_environment() | {"ROAS_DATA_DIR": str(folder / "data")}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, check=False)
    assert done.returncode == exit_codes.UNEXPECTED
    (log,) = (folder / "data").iterdir()
    return f"{log.name} {stat.S_IMODE(log.stat().st_mode):o}"


def made_in(folder: Path, make: Callable[[Path], object]) -> list[str]:
    """The files that are made in a folder."""
    make(folder)
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def init_writes(folder: Path) -> str:
    """What `roas init` writes of an application with a password."""
    service = {"image": "postgres:17", "environment": {"POSTGRES_PASSWORD": "correct-horse-battery-7"}}
    (folder / "compose.yaml").write_text(yaml.safe_dump({"services": {"db": service}}))
    code, _ = command_ends(folder, "init")
    assert code == exit_codes.SUCCESS
    return "correct-horse-battery-7" if "correct-horse" in (folder / "roas.yaml").read_text() else "no value"


def schedules() -> dict[str, str]:
    """The schedules of prefect.yaml, by the flow's module."""
    declared = yaml.safe_load(text_of("prefect.yaml"))["deployments"]
    return {
        deployment["entrypoint"].split(".")[2]: " ".join(entry["cron"].split()[2:])
        for deployment in declared
        for entry in deployment.get("schedules") or ()
        if "cron" in entry
    }


def service_of(**fields: Any) -> timedelta:
    return start_deadline(ServiceDeclaration(name="web", image="web", **fields), ENVIRONMENT)


def table_words(page: str, heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    section = text_of(page).partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


CLAIMS = {
    # Exit codes and output
    "exit codes": DocClaim(
        page=README,
        words="Exit codes: 0 done or healthy, 1 failed or not well, 2 wrong input, 3 unexpected error",
        has=lambda _: (exit_codes.SUCCESS, exit_codes.FAILED, exit_codes.BAD_INPUT, exit_codes.UNEXPECTED),
        means=(0, 1, 2, 3),
    ),
    "exit code of Ctrl-C": DocClaim(page=README, words="130 Ctrl-C", has=lambda _: exit_codes.INTERRUPTED, means=130),
    "exit code of wrong input": DocClaim(
        page=CI,
        words="| 2 | an argument, option, variable or file cannot be used |",
        has=lambda folder: command_ends(folder, "history", "--limit", "none")[0],
        means=2,
    ),
    "exit code of a list": DocClaim(
        page=CI,
        words="a list, whatever is in it (`alerts`, `tickets`, `history`)",
        has=lambda folder: {command_ends(folder, name)[0] for name in ("alerts", "tickets", "history")},
        means={0},
    ),
    "exit code of what does not exist": DocClaim(
        page=CI,
        words="what was asked for does not exist",
        has=lambda folder: command_ends(folder, "tickets", "T-000000-0000")[0],
        means=1,
    ),
    "errors as JSON": DocClaim(
        page=CI,
        words='`{"error": …, "advice": …, "exit_code": …}`',
        has=error_document,
        means={"error", "advice", "exit_code"},
    ),
    "reporting commands take --json": DocClaim(
        page=README,
        words="Every command that reports takes `--json`",
        has=lambda _: [name for name in REPORTING.split() if not _takes(name, "--json")],
        means=[],
    ),
    "drift and plan take --exit-code": DocClaim(
        page=README,
        words="with 1 under `--exit-code`",
        has=lambda _: [name for name in ("drift", "plan") if not _takes(name, "--exit-code")],
        means=[],
    ),
    "log of unexpected errors": DocClaim(
        page=RUNBOOK,
        words="`unexpected-errors.log` in the data folder (mode 0600, at most twice 1 MiB)",
        has=unexpected_log,
        means="unexpected-errors.log 600",
    ),
    # Places
    "three stores": DocClaim(page=README, words="Three SQLite stores", has=lambda _: len(STORES), means=3),
    "names of the stores": DocClaim(
        page=ARCHITECTURE,
        words="| `deployment_logs.db`, `monitoring.db`, `errors.db` | the three stores |",
        has=lambda folder: (modes(folder), {file.stem for file in (folder / "data").glob("*.db")})[1],
        means=set(STORES),
    ),
    "modes of the data folder": DocClaim(
        page=SECURITY,
        words="folders 0700, files 0600, umask 077",
        has=modes,
        means={"folder 700", "file 600"},
    ),
    "default data folder": DocClaim(
        page=README, words="Data is in `~/.local/share/roas`", has=default_places, means=".local/share/roas"
    ),
    "password of the server": DocClaim(
        page=SECURITY,
        words="The first use writes the password to `data/prefect/auth_string`, mode 0600",
        has=lambda folder: (
            server_credentials(folder / "prefect").auth_string,
            stat.S_IMODE((folder / "prefect/auth_string").stat().st_mode),
        )[1],
        means=0o600,
    ),
    "key of answers": DocClaim(
        page=RUNBOOK,
        words="is signed by `answers.key` in the data folder",
        has=lambda folder: made_in(folder, answer_key),
        means=["answers.key"],
    ),
    "password of snapshots": DocClaim(
        page=DATA,
        words="in `snapshots/ENV.password`",
        has=lambda folder: made_in(folder, lambda data: restic.generated_password(data / "snapshots", "ENV")),
        means=["snapshots/ENV.password"],
    ),
    "tags of releases": DocClaim(
        page=DISK, words="under `roas-release:…` tags", has=lambda _: RELEASE_IMAGES, means="roas-release"
    ),
    "dev.yaml explains every field": DocClaim(
        page=README,
        words="`dev.yaml` explains every field",
        has=lambda _: [
            name
            for name, field in Environment.model_fields.items()
            if not re.search(rf"\b{field.alias or name}\b", text_of("deployments/environments/dev.yaml"))
        ],
        means=[],
    ),
    "schema of an environment": DocClaim(
        page=README,
        words="`roas schema` prints the fields as JSON Schema",
        has=lambda folder: set(json.loads(command_ends(folder, "schema")[1])["properties"]),
        means={field.alias or name for name, field in Environment.model_fields.items()},
    ),
    "init writes no secret": DocClaim(
        page=README,
        words="`roas init` changes nothing that runs and writes no secret's value",
        has=init_writes,
        means="no value",
    ),
    # Servers and processes
    "port of the UI": DocClaim(
        page=README, words="http://127.0.0.1:4200", has=lambda _: default_of(Settings, "server_port"), means=4200
    ),
    "port of answers": DocClaim(
        page=RUNBOOK,
        words="listens on 127.0.0.1:4290",
        has=lambda _: option("webhooks", "port").default,
        means=4290,
    ),
    "end of the warm process": DocClaim(
        page=README,
        words="It ends after ten minutes without a command",
        has=lambda _: timedelta(seconds=vars(entry)["_IDLE_SECONDS"]),
        means=timedelta(minutes=10),
    ),
    "switch of the warm process": DocClaim(
        page=README, words="`ROAS_WARM=0` switches both off", has=lambda _: SWITCH, means="ROAS_WARM"
    ),
    "the control plane leaves dev": DocClaim(
        page=README,
        words="leaves `dev` to `make up` (`ROAS_UNWATCHED`)",
        has=lambda _: "ROAS_UNWATCHED: ${ROAS_UNWATCHED-dev}" in text_of("docker-compose.yml"),
    ),
    "schedule of the life cycle": DocClaim(
        page=DISK,
        words="`roas serve` runs the life cycle daily",
        has=lambda _: schedules()["lifecycle"],
        means="* * *",
    ),
    "channels of notifications": DocClaim(
        page=README,
        words="asks for the webhook's address; also slack, teams, email, webhook",
        has=lambda _: choices("notify add", "kind"),
        means={"discord", "slack", "teams", "email", "webhook"},
    ),
    "commands by purpose": DocClaim(
        page="docs/commands.md",
        words="# Commands by purpose",
        has=lambda _: [name for name in _commands() if not _is_named(name, text_of("docs/commands.md"))],
        means=[],
    ),
    "share of the campaigns": DocClaim(
        page=README, words="checks, tests and a sixteenth of the campaigns", has=lambda _: SHARDS, means=16
    ),
    # Starting and proving
    "kinds of probes": DocClaim(
        page=README,
        words="Probes ask pages (also HTTPS), PostgreSQL, MariaDB and MySQL, Redis, RabbitMQ, mail and DNS servers, "
        "Prometheus, certificates, ports, or run a command",
        has=lambda _: kinds(NetworkProbe) | {"command"},
        means={
            "http",
            "postgresql",
            "mysql",
            "redis",
            "amqp",
            "smtp",
            "dns",
            "prometheus",
            "certificate",
            "tcp",
            "command",
        },
    ),
    "stabilisation time": DocClaim(
        page=PROVEN,
        words="*stabilisation time*, ten seconds by default",
        has=lambda _: ENVIRONMENT.stabilisation("web"),
        means=timedelta(seconds=10),
    ),
    "limit of a start": DocClaim(
        page=HANGS,
        words="at most that of the environment, 300 s",
        has=lambda _: default_of(Environment, "start_timeout_seconds"),
        means=300,
    ),
    "time of a service without a health check": DocClaim(
        page=PROVEN,
        words="Without a health check it is a minute; a job that others wait for has five",
        has=lambda _: (service_of(), service_of(awaited=True)),
        means=(timedelta(minutes=1), timedelta(minutes=5)),
    ),
    "crashes that are tolerated": DocClaim(
        page=PROVEN, words="after five the service has failed", has=lambda _: CRASHES_TOLERATED, means=5
    ),
    "lease of a holder": DocClaim(
        page=ARCHITECTURE,
        words="any other 60 s after its last heartbeat",
        has=lambda _: (LEASE, GRACE),
        means=(timedelta(seconds=60), timedelta(seconds=60)),
    ),
    # Recovering
    "services that fail at once": DocClaim(
        page=JUDGED, words="three services fail at once, they count as one cause", has=lambda _: AT_ONCE, means=3
    ),
    "time between attempts": DocClaim(
        page=JUDGED,
        words="ten seconds, then longer, at most five minutes",
        has=lambda _: (
            [round(backoff(attempt, seed="a") / backoff(2, seed="a")) for attempt in (2, 3)] == [1, 2]
            and timedelta(seconds=8) <= backoff(2, seed="a") <= timedelta(seconds=12)
            and backoff(90, seed="a") <= timedelta(minutes=6)
        ),
    ),
    "healthy minutes": DocClaim(
        page=JUDGED,
        words="After ten healthy minutes earlier attempts no longer count",
        has=lambda _: PROVEN_AFTER,
        means=timedelta(minutes=10),
    ),
    "a loop": DocClaim(
        page=ARCHITECTURE,
        words="three exits within five minutes are a loop",
        has=lambda _: (LOOP, LOOP_WITHIN),
        means=(3, timedelta(minutes=5)),
    ),
    "sweeps": DocClaim(page=ARCHITECTURE, words="sweeps every minute", has=lambda _: SWEEP, means=timedelta(minutes=1)),
    "states of a recovery": DocClaim(
        page=ARCHITECTURE,
        words="open, planned, acting, verifying, resolved, escalated",
        has=lambda _: ", ".join(RecoveryState),
        means="open, planned, acting, verifying, resolved, escalated",
    ),
    "budgets": DocClaim(
        page=WATCH,
        words="attempts_per_error: 3 attempts_per_service_15min: 3 attempts_per_service_day: 12",
        has=lambda _: tuple(
            default_of(RecoveryPolicy, f"attempts_per_{name}") for name in ("error", "service_15min", "service_day")
        ),
        means=(3, 3, 12),
    ),
    "measurements": DocClaim(
        page=WATCH,
        words="measures once a minute",
        has=lambda _: default_of(Environment, "collect_every_seconds"),
        means=60,
    ),
    "a question without an answer": DocClaim(
        page=RUNBOOK, words="seven days without an answer", has=lambda _: WAITS, means=timedelta(days=7)
    ),
    "links of answers": DocClaim(
        page=RUNBOOK, words="A link works once, for 24 hours", has=lambda _: VALID_FOR, means=timedelta(hours=24)
    ),
    "pause by a link": DocClaim(
        page=RUNBOOK, words="pause recovery for an hour", has=lambda _: PAUSED_FOR, means=timedelta(hours=1)
    ),
    "reminders": DocClaim(
        page=CHAT,
        words="a reminder after one hour and then every four",
        has=lambda _: (FIRST_REMINDER, REMINDER),
        means=(timedelta(hours=1), timedelta(hours=4)),
    ),
    "a silent host": DocClaim(
        page=RUNBOOK,
        words="had no contact with the stores for a minute",
        has=lambda _: SILENT_AFTER,
        means=timedelta(minutes=1),
    ),
    # Updating and data
    "ages of images": DocClaim(
        page=UPDATES,
        words="`roas update` is refused and names the next window, unless you say `--now`",
        has=lambda _: _takes("update", "--now"),
    ),
    "kinds of data": DocClaim(
        page=DATA,
        words="{kind: files, volume: uploads}",
        has=lambda _: {kind for kind in _kinds_of_data() if f"kind: {kind}" in text_of(DATA)},
        means={"postgresql", "mariadb", "redis", "sqlite", "files"},
    ),
    "snapshots that stay": DocClaim(
        page=DATA,
        words="keep: {last: 7, daily: 7, weekly: 4}",
        has=lambda _: KeepSnapshots().model_dump(),
        means={"last": 7, "daily": 7, "weekly": 4},
    ),
    "metric of snapshots": DocClaim(
        page=DATA,
        words="the metric `roas_snapshot_max_age_seconds`",
        has=lambda _: "# HELP roas_snapshot_max_age_seconds" in text_of("tests/golden/expected/metrics.txt"),
    ),
    "version of restic": DocClaim(
        page=DATA, words="0.17 or later", has=lambda _: vars(restic)["_OLDEST"], means=(0, 17)
    ),
    "time of a hook": DocClaim(
        page=HOOKS,
        words="After `timeout_seconds` (600 by default)",
        has=lambda _: default_of(Hook, "timeout_seconds"),
        means=600,
    ),
    "observations of a canary": DocClaim(
        page=HOOKS,
        words="a service is unhealthy in two observations in a row, - its memory or its answers are above their bound "
        "in three observations in a row",
        has=lambda _: (UNHEALTHY_IN_A_ROW, IN_A_ROW),
        means=(2, 3),
    ),
    # The record
    "budget of a store": DocClaim(
        page=DISK,
        words="a budget, 2 GiB each by default",
        has=lambda _: default_of(Settings, "store_budget_mib"),
        means=2048,
    ),
    "time of operations": DocClaim(
        page=RECORD,
        words="operations that went well stay 180 days, failed ones 360",
        has=lambda _: (default_of(Settings, "keep_deployments_days"), default_of(Settings, "keep_failed_days")),
        means=(180, 360),
    ),
    "time over the budget": DocClaim(
        page=RECORD,
        words="A store over its budget gives up old successes first",
        has=lambda _: RetentionPolicy().deployments < RetentionPolicy().failed_deployments,
    ),
    "limits of files": DocClaim(
        page=SECURITY,
        words="limited to 1 MiB, YAML to 100 levels and 100,000 values",
        has=lambda _: (MIB, DEPTH, VALUES),
        means=(1024 * 1024, 100, 100_000),
    ),
    # Agents
    "operations of agents": DocClaim(
        page=MCP,
        words=f"`--allow` takes {', '.join(f'`{name}`' for name in OPERATIONS[:-1])} and `{OPERATIONS[-1]}`",
        has=lambda _: set(OPERATIONS),
        means={
            "start",
            "update",
            "rehearse_update",
            "sync",
            "stop",
            "restart",
            "rollback",
            "rotate_secret",
            "recover",
            "resolve",
            "pause",
        },
    ),
    "tools of agents": DocClaim(
        page=MCP,
        words="| tools | answer |",
        has=lambda _: table_words(MCP, "Read"),
        means={tool.name for tool in READING_TOOLS},
    ),
    "prompt of agents": DocClaim(
        page=MCP,
        words="The prompt `explain_failure`",
        has=lambda _: [prompt.name for prompt in PROMPTS],
        means=["explain_failure"],
    ),
}


def _commands() -> list[str]:
    context = context_of(roas)
    commands = ((name, roas.get_command(context, name)) for name in roas.list_commands(context))
    return [name for name, command in commands if command is not None and not command.hidden]


def _is_named(command: str, text: str) -> bool:
    return re.search(rf"`roas [a-z\\|]*\b{command}\b", text) is not None


def _takes(words: str, name: str) -> bool:
    command, _ = roas_command(words.split("_"))
    return any(name in parameter.opts for parameter in command.params)


def _kinds_of_data() -> set[str]:
    from models.snapshots import SavedData

    return kinds(SavedData)


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_page_says_is_so(name: str, tmp_path: Path) -> None:
    claim = CLAIMS[name]
    assert " ".join(claim.words.split()) in " ".join(text_of(claim.page).split()), f"{claim.page} says it otherwise"

    assert claim.has(tmp_path) == claim.means


def test_forty_claims_are_held() -> None:
    assert len({(claim.page, claim.words) for claim in CLAIMS.values()}) == len(CLAIMS) >= 40
