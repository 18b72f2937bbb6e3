"""`roas notify`: the webhooks and mail servers that receive notifications."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from adapters.config.environment_files import chosen_folder
from adapters.config.webhook_addresses import is_refused
from cli import completers
from cli.options import as_json, read_input, resolve_names
from cli.run_flow import run_flow, show_answer
from flows.common.terminal import echo
from models.failures import BadInputError, RoasError
from models.notifications import Channel, Message
from models.settings import current_settings

_ADDRESSES = {
    "discord": re.compile(r"https://(?:[a-z]+\.)?discord(?:app)?\.com/api/webhooks/(\d+)/([\w-]+)/?"),
    "slack": re.compile(r"https://hooks\.slack\.com/\S+"),
    "teams": re.compile(r"https://\S+"),
    "webhook": re.compile(r"https?://\S+"),
    "email": re.compile(r"smtps?://\S+"),
}
_KINDS = {"discord": "discord-webhook", "slack": "slack-webhook", "teams": "ms-teams-webhook"}
_CALLED = {"discord": "Discord webhook", "slack": "Slack webhook", "teams": "Teams webhook", "email": "mail server"}


@click.group()
def notify() -> None:
    """Manage notifications of failures: Discord, Slack, Teams, mail, or any webhook.

    The Prefect UI has more kinds under Blocks; name them in an environment's file in the same way.
    """


@notify.command("add")
@click.argument("kind", type=click.Choice(list(_ADDRESSES)))
@click.argument("name", default="operations")
@click.option(
    "--for",
    "environment",
    metavar="ENV",
    shell_complete=completers.environments,
    help="Also name it in the file of this environment; by default in that of the nearest roas.yaml.",
)
def add(kind: str, name: str, environment: str | None) -> None:
    """Store a webhook's address, encrypted, on the Prefect server. Type it when asked, or pipe it in.

    That of a mail server is smtps://USER:PASSWORD@HOST/?from=ADDRESS&to=ADDRESS, with smtp:// for STARTTLS.
    """
    # It loads an HTTP client, which the help need not wait for.
    from adapters.notifications.mail import FORM, read_mail_address

    notified = _file_of(environment)
    if not re.fullmatch("[a-z0-9-]+", name):
        raise BadInputError(f"{name!r} cannot be a channel's name;", advice="use small letters, digits and dashes.")
    typed = sys.stdin is not None and sys.stdin.isatty()
    about = f"Address of the {_CALLED['email'] if kind == 'email' else 'webhook'}"
    text = click.prompt(about, hide_input=True, err=True) if typed else read_input()
    address = str(text).strip()
    if not (parts := _ADDRESSES[kind].fullmatch(address)):
        # The address is not repeated: it is all that is needed to post there.
        raise BadInputError(
            f"That is not the address of a {_CALLED.get(kind, kind)};",
            advice=f"write it as {FORM}." if kind == "email" else "copy the whole address from the service.",
        )
    if kind == "email":
        read_mail_address(address)
    try:
        host = urlsplit(address).hostname or ""
    except ValueError as error:
        raise BadInputError("That is not an address;", advice="copy the whole address from the service.") from error
    if is_refused(host):
        raise BadInputError(
            "That address is link-local, where a cloud serves a machine's credentials;",
            advice="give the address of a server that accepts notifications.",
        )

    async def keep() -> str:
        from tasks.recovery.channels import keep_channel

        return await keep_channel(kind, name, address, parts.groups())

    block = run_flow(keep, quiet=True)
    echo(f"{block} is stored on the Prefect server")
    if notified is None:
        folder = chosen_folder(current_settings())
        file = "the environment's file" if folder is None else str(folder / "ENV.yaml")
        echo(f"next: write `notify: [{block}]` into {file}, then: roas notify test ENV")
        return
    from adapters.config.environment_edits import add_channel

    of, path = notified
    is_new = add_channel(path, of, block)
    echo(f"{path} {'now names' if is_new else 'names'} it under notify; nothing else was changed")
    echo(f"next: roas notify test {of}")


def _file_of(environment: str | None) -> tuple[str, Path] | None:
    """The named environment, or the one of the nearest roas.yaml, and its file; None where none is meant.

    Raises:
        EnvironmentFileError: There is no such environment, or its file is not valid.
    """
    from adapters.config.environment_files import environment_files, meant_environment
    from tasks.runtime.clients import find_environment

    settings = current_settings()
    if environment is None:
        return meant_environment(settings)
    find_environment(environment)
    return environment, environment_files(settings)[environment]


@notify.command("list")
@as_json
def list_channels(json_wanted: bool) -> None:
    """List the notification channels of each environment, and unused ones, without addresses."""

    async def look() -> list[Channel]:
        from adapters.config.environment_files import known_environments
        from tasks.recovery.channels import read_channels
        from tasks.runtime.clients import find_environment

        named_by: dict[str, list[str]] = {}
        for name in known_environments(current_settings()):
            try:
                blocks = find_environment(name).notify
            except BadInputError as error:
                echo(f"{name}: {str(error).splitlines()[0]}", err=True)
                continue
            for block in blocks:
                named_by.setdefault(block, []).append(name)
        return await read_channels(named_by)

    show_answer(run_flow(look, quiet=True), json_wanted, _show)


def _show(channels: list[Channel]) -> None:
    if not channels:
        echo("there is no notification channel; `roas notify add` stores an address")
    for channel in channels:
        used = f"notified of {', '.join(channel.environments)}" if channel.environments else "no environment uses it"
        echo(f"{channel.block}: {used}{'' if channel.kept else ', but it is not on the Prefect server'}")


@notify.command("test")
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
def test(environment: str | None) -> None:
    """Send an example of each kind of message to every channel of ENV, and report failures."""
    name, _ = resolve_names(environment, (), None)

    async def send() -> dict[str, str | None]:
        from tasks.recovery.notify import send_examples
        from tasks.runtime.clients import find_environment

        declared = find_environment(name)
        if not declared.notify:
            raise BadInputError(
                f"{name} has no notification channel;",
                advice=f"store an address and name it: roas notify add webhook --for {name} "
                "(or discord, slack, teams, email).",
            )
        return await send_examples(declared)

    reported = run_flow(send, quiet=True)
    for block, trouble in reported.items():
        echo(f"{block}: {trouble or 'sent'}")
    if any(reported.values()):
        raise RoasError("Some notifications failed;", advice="`roas notify add` stores an address again.")


@notify.command("preview")
@click.argument("subject", metavar="ENV|TICKET")
@click.option(
    "--as",
    "service",
    type=click.Choice(["discord", "slack", "teams", "text"]),
    default="text",
    show_default=True,
    help="The service to render it for; JSON but for text.",
)
def preview(subject: str, service: str) -> None:
    """Print the messages about ENV's failures or about TICKET; send nothing.

    Without a failure in ENV, print an example.
    """
    from tasks.recovery.notify import preview_messages

    for message in preview_messages(subject):
        echo(_show_result(service, message))


def _show_result(service: str, message: Message) -> str:
    from core.notifications.services import render

    if service == "text":
        content = render("text", message)
        return f"{content['subject']}\n\n{content['body']}\n"
    return json.dumps(render(_KINDS[service], message), indent=2, ensure_ascii=False)
