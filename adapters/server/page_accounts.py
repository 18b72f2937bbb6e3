"""Accounts of the page: a file in the server's folder with names and salted hashes of passwords."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
from dataclasses import asdict
from hashlib import scrypt
from pathlib import Path

from adapters.host.private_files import make_private_folder, read_regular, write_private
from models.failures import BadInputError, NotFoundError, RoasError
from models.page_access import Account

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 1024

_FILE = "page_accounts.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
"""16 MiB and some 40 ms a try: what OWASP's cheat sheet on storing passwords has for scrypt with one lane is 2**17; a
server of one machine has no 128 MiB to spare for each, and tries are limited."""
_SALT_BYTES = 16


def read_accounts(home: Path) -> tuple[Account, ...]:
    """The accounts of the server in folder `home`, by name; none where no file is there.

    Raises:
        RoasError: The file cannot be read.
    """
    try:
        entries = json.loads(read_regular(home / _FILE))
        return tuple(sorted((Account(**entry) for entry in entries), key=lambda account: account.name))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise RoasError(
            f"The accounts of the page in {home / _FILE} cannot be read: {error};",
            advice="correct the file, or move it away and add the accounts again.",
        ) from error


def add_account(home: Path, name: str, password: str, *, may_write: bool) -> None:
    """Add an account, or give one of that name another password and other rights.

    Raises:
        BadInputError: The name or password cannot be used.
        RoasError: The file cannot be read or written.
    """
    if not _NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot be the name of an account;",
            advice="use 1 to 63 letters, digits, dots, hyphens, underscores or @, a letter or digit first.",
        )
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise BadInputError(
            f"The password has {len(password)} characters;", advice=f"use {LEAST_CHARACTERS} to {MOST_CHARACTERS}."
        )
    account = Account(name=name, password_hash=_hash_password(password), may_write=may_write)
    _write(home, [*(other for other in read_accounts(home) if other.name != name), account])


def remove_account(home: Path, name: str) -> None:
    """Remove an account; its sessions end with it.

    Raises:
        NotFoundError: There is no such account.
        RoasError: The file cannot be read or written.
    """
    accounts = read_accounts(home)
    if all(account.name != name for account in accounts):
        raise NotFoundError(f"There is no account {name};", advice="`roas account list` lists them.")
    _write(home, [account for account in accounts if account.name != name])


def has_password(account: Account | None, password: str) -> bool:
    """Whether this is the account's password; without an account it takes as long, and is False."""
    salt, _, expected = (account.password_hash if account else _NOBODY).partition("$")
    is_equal = hmac.compare_digest(_derive(password, base64.b64decode(salt)), expected)
    return is_equal and account is not None


def _hash_password(password: str) -> str:
    salt = os.urandom(_SALT_BYTES)
    return f"{base64.b64encode(salt).decode()}${_derive(password, salt)}"


def _derive(password: str, salt: bytes) -> str:
    characters = password[:MOST_CHARACTERS].encode("utf-8", "surrogatepass")
    return base64.b64encode(scrypt(characters, salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL)).decode()


_NOBODY = f"{base64.b64encode(bytes(_SALT_BYTES)).decode()}$"


def _write(home: Path, accounts: list[Account]) -> None:
    try:
        make_private_folder(home)
        entries = [asdict(account) for account in sorted(accounts, key=lambda account: account.name)]
        write_private(home / _FILE, json.dumps(entries, indent=1).encode())
    except OSError as error:
        raise RoasError(
            f"The accounts of the page cannot be written to {home / _FILE}: {error};",
            advice="the folder must belong to this user.",
        ) from error
