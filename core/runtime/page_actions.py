"""What the page can be asked to do: for each action its words, its fields, and the command and flow that do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.failures import BadInputError
from models.recovery import Choice

MOST_CHARACTERS = 500
"""Of one field."""

UNTIL_RESUMED = "resumed"
"""A length of a pause."""


class Preview(StrEnum):
    """What is shown before an action is confirmed."""

    SERVICES = "services"
    PLAN = "plan"
    UPDATE_PLAN = "update plan"
    ROLLBACK = "rollback"
    RESTORE = "restore"
    SNAPSHOT = "snapshot"
    TICKET = "ticket"
    ALERT = "alert"
    NOTHING = "nothing"


RUN_PREVIEWS = frozenset({Preview.PLAN, Preview.UPDATE_PLAN, Preview.ROLLBACK, Preview.RESTORE})
"""What reads an engine or volumes, so that the host of the environment finds it out."""

PREVIEW_ARTIFACT = "roas-preview"
"""The type of the artifact of a run that finds out what an action would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value of an action's form; with choices one of them. A hidden one comes from the link that leads there."""

    name: str
    label: str
    help: str = ""
    is_required: bool = False
    is_hidden: bool = False
    is_switch: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    """Values and their labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAction:
    """An action. `title` and `button` name the environment by {environment}; `effect` says what it does to whom."""

    name: str
    title: str
    button: str
    effect: str
    preview: Preview = Preview.NOTHING
    flow: str = ""
    """The name of the flow whose deployment does it; an action without one is a command of a moment."""
    fields: tuple[Field, ...] = ()
    needs_preview: bool = False
    """Whether it is refused where what it would do cannot be shown, such as on a server that reaches no engine."""
    is_typed: bool = False
    """Whether the environment's name has to be typed, because something may be lost."""


_SERVICE = Field(name="service", label="Only this service", help="Without it, all services.")
_SNAPSHOT = Field(name="snapshot", label="Snapshot", is_hidden=True)
_ANSWERS = (
    (Choice.RETRY, "Retry: repeat the step that failed, or start and prove what was mended"),
    (Choice.AGAIN, "Again from the start: repeat the whole recovery"),
    (Choice.ROLL_BACK, "Roll back to the release proven before"),
    (Choice.RESOLVED, "Resolved by hand: it is mended"),
    (Choice.SKIP, "Skip: leave it as it is"),
    (Choice.GIVE_UP, "Give up: end the recovery as failed"),
)

ACTIONS: Mapping[str, PageAction] = {
    action.name: action
    for action in (
        PageAction(
            name="start",
            title="Start {environment}",
            button="Start",
            effect="Everything is validated first, started in dependency order and proven; a start that fails is "
            "rolled back. Where a plan is shown, exactly that is done, or nothing.",
            preview=Preview.PLAN,
            flow="startup",
        ),
        PageAction(
            name="stop",
            title="Stop {environment}",
            button="Stop",
            effect="All services stop in reverse order. Containers, networks and volumes stay. Who uses the "
            "application is not served until it is started again.",
            preview=Preview.SERVICES,
            flow="stop",
        ),
        PageAction(
            name="restart",
            title="Restart {environment}",
            button="Restart",
            effect="Services restart in dependency order, each proven before the next. Each is away for the moment of "
            "its restart.",
            preview=Preview.SERVICES,
            flow="restart",
            fields=(_SERVICE,),
        ),
        PageAction(
            name="update",
            title="Update {environment}",
            button="Update",
            effect="Images are fetched first, then service by service is replaced and proven; an update that fails "
            "goes back. Exactly the plan below is done, or nothing.",
            preview=Preview.UPDATE_PLAN,
            needs_preview=True,
            flow="update",
            fields=(
                Field(
                    name="now",
                    label="Also outside of the update windows",
                    help="Windows are those of `update:` in the environment's file.",
                    is_switch=True,
                ),
            ),
        ),
        PageAction(
            name="rollback",
            title="Roll {environment} back",
            button="Roll back",
            effect="The release below is brought back and proven. Volumes are left alone unless data goes back too.",
            preview=Preview.ROLLBACK,
            needs_preview=True,
            flow="rollback",
            fields=(
                Field(name="release", label="Release", is_hidden=True),
                Field(name="with_data", label="Data", is_hidden=True, is_switch=True),
            ),
            is_typed=True,
        ),
        PageAction(
            name="snapshot",
            title="Save the data of {environment}",
            button="Save",
            effect="All data that the environment's file names is saved while its services run. Snapshots that its "
            "policy keeps no longer are forgotten.",
            preview=Preview.SNAPSHOT,
            flow="snapshot",
        ),
        PageAction(
            name="restore",
            title="Restore the data of {environment}",
            button="Restore",
            effect="What writes is stopped, the present data is saved, the snapshot is put back, and all is started "
            "and proven; a restore that fails is undone.",
            preview=Preview.RESTORE,
            needs_preview=True,
            flow="restore",
            fields=(_SNAPSHOT,),
            is_typed=True,
        ),
        PageAction(
            name="rehearse",
            title="Rehearse a restore of {environment}",
            button="Rehearse",
            effect="The snapshot is restored apart from what runs, and its data is checked. What runs is left alone.",
            preview=Preview.SNAPSHOT,
            flow="rehearse",
            fields=(_SNAPSHOT,),
        ),
        PageAction(
            name="rotate",
            title="Rotate a password of {environment}",
            button="Rotate",
            effect="The server whose password the secret is, and all that use it, get a new random one: they are "
            "stopped, replaced and proven. A rotation that fails is undone.",
            preview=Preview.SERVICES,
            flow="rotate-secret",
            fields=(Field(name="secret", label="Secret", help="Its name in `secrets:`.", is_required=True),),
        ),
        PageAction(
            name="pause",
            title="Pause the recovery of {environment}",
            button="Pause",
            effect="Failures are still detected and reported, and nothing is repaired automatically.",
            fields=(
                _SERVICE,
                Field(
                    name="length",
                    label="How long",
                    help="Recovery is on again by itself after that.",
                    choices=(
                        ("1h", "1 hour"),
                        ("8h", "8 hours"),
                        ("1d", "1 day"),
                        (UNTIL_RESUMED, "until it is resumed"),
                    ),
                ),
                Field(name="reason", label="Why", help="It is shown with the pause.", is_required=True),
            ),
        ),
        PageAction(
            name="resume",
            title="Resume the recovery of {environment}",
            button="Resume",
            effect="Failures are repaired automatically again.",
            fields=(_SERVICE,),
        ),
        PageAction(
            name="acknowledge",
            title="Acknowledge an alert of {environment}",
            button="Acknowledge",
            effect="The alert stays open until it is resolved, and notifies again only where it gets worse.",
            preview=Preview.ALERT,
            needs_preview=True,
            fields=(
                Field(name="alert", label="Alert", is_hidden=True, is_required=True),
                Field(name="note", label="What you do about it", help="It is shown with the alert."),
            ),
        ),
        PageAction(
            name="answer",
            title="Answer a ticket of {environment}",
            button="Answer",
            effect="The run that waits for the answer goes on with it; where none waits, it is carried out now.",
            preview=Preview.TICKET,
            needs_preview=True,
            fields=(
                Field(name="ticket", label="Ticket", is_hidden=True, is_required=True),
                Field(
                    name="decision",
                    label="Decision",
                    help="What is done about the failure now.",
                    choices=tuple((str(choice), label) for choice, label in _ANSWERS),
                    is_required=True,
                ),
                Field(
                    name="note",
                    label="Why, or what fixed it",
                    help="It is shown when the same cause returns.",
                    is_required=True,
                ),
            ),
        ),
    )
}
"""All actions by their names, which are parts of addresses."""


def read_fields(action: PageAction, values: Mapping[str, str]) -> dict[str, str]:
    """The values of an action's fields that were given, without those that are empty.

    Raises:
        BadInputError: One is too long, has no such choice, or holds what no line of text holds.
    """
    fields = {}
    for field in action.fields:
        value = values.get(field.name, "").strip()
        if len(value) > MOST_CHARACTERS:
            raise BadInputError(f"{field.label}: more than {MOST_CHARACTERS} characters;", advice="shorten it.")
        if not value.isprintable():
            raise BadInputError(f"{field.label}: it has a character that is not printed;", advice="write plain text.")
        if field.choices and value and value not in {choice for choice, _ in field.choices}:
            raise BadInputError(f"{field.label}: there is no such choice;", advice="choose one of the list.")
        if value:
            fields[field.name] = value
    return fields


def missing_fields(action: PageAction, fields: Mapping[str, str]) -> list[str]:
    """The labels of required fields without a value."""
    return [field.label for field in action.fields if field.is_required and field.name not in fields]


def run_parameters(action: PageAction, environment: str, fields: Mapping[str, str], plan: str) -> dict[str, Any]:
    """The parameters of the flow run that does an action; `plan` is the id of what was shown, for those with one."""
    parameters: dict[str, Any] = {"environment": environment}
    if plan:
        parameters["plan"] = plan
    if "service" in fields:
        parameters["services"] = [fields["service"]]
    parameters |= {name: fields[name] for name in ("release", "snapshot", "secret", "confirm") if name in fields}
    parameters |= {name: True for name in ("now", "with_data") if name in fields}
    if action.name == "restore":
        parameters["confirmed"] = True
    return parameters


def preview_words(action: PageAction, environment: str, fields: Mapping[str, str]) -> list[str] | None:
    """The `roas` command that prints, as JSON, what an action would do; None where its words alone say it."""
    if action.preview is Preview.TICKET:
        return ["tickets", "--json", "--", fields["ticket"]]
    snapshot = [fields["snapshot"]] if "snapshot" in fields else []
    release = [fields["release"]] if "release" in fields else []
    with_data = ["--with-data"] if "with_data" in fields else []
    return {
        Preview.PLAN: ["plan", "--json", "--", environment],
        Preview.UPDATE_PLAN: ["plan", "--update", "--json", "--", environment],
        Preview.SERVICES: ["status", "--json", "--", environment],
        Preview.ROLLBACK: ["rollback", "--dry-run", *with_data, "--json", "--", environment, *release],
        Preview.RESTORE: ["snapshot", "restore", "--dry-run", "--json", "--", environment, *snapshot],
        Preview.SNAPSHOT: ["snapshot", "list", "--json", "--", environment],
        Preview.ALERT: ["alerts", "--json", "--", environment],
    }.get(action.preview)


def preview_parameters(action: PageAction, environment: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of the run that finds out what an action would do."""
    chosen: dict[str, Any] = {name: fields[name] for name in ("release", "snapshot") if name in fields}
    return (
        {"environment": environment, "action": action.name}
        | chosen
        | ({"with_data": True} if "with_data" in fields else {})
    )


def command_words(action: PageAction, environment: str, fields: Mapping[str, str], plan: str) -> list[str]:
    """The words of the `roas` command that does an action. What others chose stands behind `=` or `--`."""
    options = [f"--plan={plan}"] if plan else []
    options += [f"--{name.replace('_', '-')}" for name in ("now", "with_data") if name in fields]
    options += [f"--confirm={fields['confirm']}"] if "confirm" in fields else []
    service = [fields["service"]] if "service" in fields else []
    snapshot = [fields["snapshot"]] if "snapshot" in fields else []
    release = [fields["release"]] if "release" in fields else []
    if action.name == "pause":
        is_bounded = fields.get("length", UNTIL_RESUMED) != UNTIL_RESUMED
        length = [f"--for={fields['length']}"] if is_bounded else []
        return ["pause", f"--env={environment}", f"--reason={fields['reason']}", *length, "--", *service]
    confirmed = ["--yes"] if action.is_typed and (action.name == "restore" or "with_data" in fields) else []
    return {
        "snapshot": ["snapshot", "create", "--", environment],
        "restore": ["snapshot", "restore", *confirmed, "--", environment, *snapshot],
        "rehearse": ["snapshot", "rehearse", "--", environment, *snapshot],
        "rotate": ["secret", "rotate", *options, "--", environment, fields.get("secret", "")],
        "rollback": ["rollback", *options, *confirmed, "--", environment, *release],
        "resume": ["unpause", f"--env={environment}", "--", *service],
        "acknowledge": ["acknowledge", f"--note={fields.get('note', '')}", "--", fields.get("alert", "")],
        "answer": [
            *("resolve", f"--decision={fields.get('decision', '')}", f"--note={fields.get('note', '')}"),
            *("--", fields.get("ticket", "")),
        ],
    }.get(action.name, [action.name, *options, "--", environment, *service])
