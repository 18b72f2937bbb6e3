"""`roas open`: show the page in a browser."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import click

from cli import completers
from cli.options import as_json, known_environment
from cli.run_flow import check_api_url, show_answer
from flows.common.terminal import echo
from models.settings import Settings, current_settings

if TYPE_CHECKING:
    from flows.server.page_invitation import Invitation

_BASE = "/roas/"
_GRAPHICAL = ("DISPLAY", "WAYLAND_DISPLAY")
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ROAS Ops</title>'
    '<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0; url={url}"></head>'
    '<body><p><a href="{url}">Open the page</a></p></body></html>\n'
)


@click.command("open")
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@click.option("--no-browser", "only_print", is_flag=True, help="Only print the address.")
@as_json
def open(environment: str | None, only_print: bool, json_wanted: bool) -> None:  # noqa: A001 - the command's name
    """Print an address that signs in to the page once, within five minutes, and open a browser where there is one.

    The page is that of `roas serve`, of the control plane, or of the server that a command left.
    """
    from adapters.host.processes import this_user
    from flows.server.embedded import START_WITHIN, prefect_api, wait_for_api
    from flows.server.page_invitation import invite
    from flows.server.shared_server import left_port

    settings = current_settings()
    check_api_url()
    name = known_environment(environment)
    place = _BASE if name is None else f"{_BASE}environments/{quote(name, safe='')}"
    with prefect_api(settings) as timeout:
        wait_for_api(timeout)
        # No setting says where a command's own server is.
        is_own = timeout == START_WITHIN
        invitation = invite(this_user().user, place, None if is_own else settings.ui_url)
        show_answer(invitation, json_wanted, lambda shown: echo(shown.url))
        if not only_print and not json_wanted:
            _open_browser(invitation, settings)
        if is_own and left_port(settings.prefect_home) != urlsplit(os.environ["PREFECT_API_URL"]).port:
            echo("this server ends with this command: Ctrl-C", err=True)
            with suppress(KeyboardInterrupt):
                signal.pause()


def _open_browser(invitation: Invitation, settings: Settings) -> None:
    """Open a browser by a private file: other users read the arguments of its process, and could be there first."""
    if not sys.stdout.isatty() or (sys.platform == "linux" and not any(map(os.environ.get, _GRAPHICAL))):
        return
    import webbrowser
    from html import escape

    from adapters.host.private_files import write_private

    file = settings.prefect_home / "open.html"
    with suppress(OSError, webbrowser.Error):
        write_private(file, _PAGE.format(url=escape(invitation.url)).encode())
        webbrowser.open(file.as_uri())
