"""`roas account`: who signs in to the page with a password of their own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cli.options import as_json, read_input
from cli.run_flow import show_answer
from flows.common.terminal import echo
from models.settings import current_settings

if TYPE_CHECKING:
    from models.page_access import Account


@click.group()
def account() -> None:
    """Manage who signs in to the page. The server's own password, and `roas open`, need no account."""


@account.command()
@click.argument("name")
@click.option("--read-only", is_flag=True, help="It sees every page, and changes nothing.")
def add(name: str, read_only: bool) -> None:
    """Add an account, or change one's password and rights. Type the password when asked, or pipe it in.

    Run it where the server runs: the accounts are a file of its folder.
    """
    from adapters.server.page_accounts import add_account

    typed = sys.stdin is not None and sys.stdin.isatty()
    about = f"Password of {name}"
    text = click.prompt(about, hide_input=True, confirmation_prompt=True, err=True) if typed else read_input()
    add_account(current_settings().prefect_home, name, str(text).strip(), may_write=not read_only)
    echo(f"{name} may sign in{', and read only' if read_only else ''}")


@account.command("list")
@as_json
def list_accounts(json_wanted: bool) -> None:
    """List accounts and what each may do."""
    from adapters.server.page_accounts import read_accounts

    accounts = read_accounts(current_settings().prefect_home)
    rights = [{"name": account.name, "may_write": account.may_write} for account in accounts]
    show_answer(rights, json_wanted, lambda _: _show(accounts))


@account.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove an account; its sessions end at once."""
    from adapters.server.page_accounts import remove_account

    remove_account(current_settings().prefect_home, name)
    echo(f"{name} may not sign in any more")


def _show(accounts: tuple[Account, ...]) -> None:
    if not accounts:
        echo("no accounts: only the server's own password and `roas open` sign in")
    for listed in accounts:
        echo(f"{listed.name}  {'all actions' if listed.may_write else 'read only'}")
