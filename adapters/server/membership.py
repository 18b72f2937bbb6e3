"""A host's side of enrolment: ask a control plane for a place, keep the credential, give it back."""

from __future__ import annotations

import os
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from adapters.host.private_files import make_private_folder, read_regular, write_private
from models.enrolment import EnrolRequest, Membership
from models.failures import BadInputError, RoasError
from models.settings import CONTROL_PLANE_FILE, Settings

if TYPE_CHECKING:
    import httpx

_STORES_SECRET = "stores-password"  # noqa: S105 - the name of a file
_CERTIFICATES = "PREFECT_API_SSL_CERT_FILE"
_SECONDS = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def read_membership(settings: Settings) -> Membership | None:
    """What this host knows of its control plane; None where it is not enrolled.

    Raises:
        RoasError: The file cannot be read.
    """
    file = settings.data_dir / CONTROL_PLANE_FILE
    # A folder that cannot be entered is reported by who opens the stores in it.
    if not os.access(file, os.F_OK):
        return None
    try:
        return Membership.model_validate_json(read_regular(file))
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its content is not what `roas join` wrote"
        raise RoasError(
            f"This host's enrolment cannot be read from {file}: {reason};", advice="enrol it again, or remove the file."
        ) from error


def reach_control_plane(member: Membership) -> None:
    """Let Prefect's clients of this process, and of those that it starts, use the control plane."""
    os.environ |= {"PREFECT_API_URL": f"{member.server}/api", "PREFECT_API_AUTH_STRING": member.auth_string}
    if member.certificates is not None:
        os.environ.setdefault(_CERTIFICATES, member.certificates)


def settings_of_member(settings: Settings) -> dict[str, str]:
    """Variables by which the programs of an enrolled host reach the stores of its control plane.

    Raises:
        RoasError: The file cannot be read.
    """
    member = read_membership(settings)
    if member is None or member.stores_url is None:
        return {}
    variables = {"ROAS_STORES_URL": member.stores_url}
    if member.stores_password is not None:
        variables["ROAS_STORES_PASSWORD_FILE"] = str((settings.data_dir / _STORES_SECRET).absolute())
    return variables


def member_with_own_stores(settings: Settings) -> Membership | None:
    """What this host knows of its control plane where it keeps its records itself, and ships them there; else None.

    Raises:
        RoasError: The file cannot be read.
    """
    member = read_membership(settings)
    return member if settings.stores_url is None else None


def enrol(server: str, token: str, host: str, version: str, settings: Settings) -> Membership:
    """Exchange a token for this host's credential, and keep it in the data folder.

    Raises:
        BadInputError: The address cannot be used, or this host is enrolled already.
        RoasError: The control plane refuses the token, does not answer, or the file cannot be written.
    """
    there = read_membership(settings)
    base = checked_address(server)
    if there is not None:
        raise BadInputError(
            f"This host is enrolled at {there.server} as {there.name};", advice="run `roas leave` first."
        )
    request = EnrolRequest(token=token.strip(), host=host, version=version)
    answer = _post(f"{base}/roas/enrol", request.model_dump(), None)
    try:
        member = Membership.model_validate(answer).model_copy(
            update={"server": base, "certificates": os.environ.get(_CERTIFICATES) or None}
        )
    except ValidationError as error:
        raise RoasError(
            f"What answers at {base} is no control plane of ROAS Ops;", advice="check the address and its port."
        ) from error
    _keep(member, settings)
    return member


def leave(member: Membership, settings: Settings, *, tell: bool) -> None:
    """Give a host's place back, which removes its deployments and work pool there, and forget the credential.

    `tell` False only forgets it here, where the control plane is gone for good.

    Raises:
        RoasError: The control plane does not answer, or the file cannot be removed. Nothing is forgotten then.
    """
    if tell:
        _post(f"{member.server}/roas/leave", {}, (member.pool, member.key))
    for name in (_STORES_SECRET, CONTROL_PLANE_FILE):
        try:
            (settings.data_dir / name).unlink(missing_ok=True)
        except OSError as error:
            raise RoasError(
                f"{settings.data_dir / name} cannot be removed: {error.strerror};", advice="remove it yourself."
            ) from error


def checked_address(server: str) -> str:
    """The address of a control plane, without a path.

    Raises:
        BadInputError: It is no https address; http is allowed on this machine alone.
    """
    advice = "give one like https://ops.example.com:4443."
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadInputError("The control plane's address cannot be read;", advice=advice) from None
    if parts.username or parts.password:
        raise BadInputError("The control plane's address holds a user or a password;", advice=advice)
    if not host or parts.scheme not in ("http", "https") or parts.path.rstrip("/") not in ("", "/api"):
        raise BadInputError(f"{server} is no address of a control plane;", advice=advice)
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise BadInputError(f"{server} would send the token and all that follows unencrypted;", advice=advice)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}"


def _keep(member: Membership, settings: Settings) -> None:
    try:
        make_private_folder(settings.data_dir)
        if member.stores_password is not None:
            write_private(settings.data_dir / _STORES_SECRET, f"{member.stores_password}\n".encode())
        # Last, since by it the host counts as enrolled.
        write_private(settings.data_dir / CONTROL_PLANE_FILE, member.model_dump_json().encode())
    except OSError as error:
        raise RoasError(
            f"The credential cannot be kept in {settings.data_dir}: {error.strerror};",
            advice="the folder must belong to this user; then enrol again, the token works until it expires.",
        ) from error


def _post(address: str, content: dict[str, Any], auth: tuple[str, str] | None) -> Any:
    # An HTTP client takes long to import, and only these two commands need it.
    import httpx

    from adapters.http_client import ask_and_wait, reason_of

    base = address.rpartition("/roas/")[0]
    trusted = os.environ.get(_CERTIFICATES) or os.environ.get("SSL_CERT_FILE")
    try:
        verify = ssl.create_default_context(cafile=trusted) if trusted else True
        client = {"timeout": _SECONDS, "follow_redirects": False, "verify": verify, "auth": auth}
        answer = ask_and_wait("POST", address, client=client, seconds=_SECONDS, whole=True, json=content)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = reason_of(error) or f"not within {_SECONDS:g} s"
        raise RoasError(
            f"The control plane at {base} does not answer: {reason};",
            advice=f"is it reachable from here, and is its certificate trusted ({_CERTIFICATES})?",
        ) from error
    if answer.is_success:
        try:
            return answer.json()
        except ValueError:
            return None
    raise RoasError(
        f"The control plane at {base} refuses: {_reason(answer)}", advice=_ADVICE.get(answer.status_code, "")
    )


_ADVICE: dict[int, str] = {
    HTTPStatus.FORBIDDEN: "Ask for a new token: `roas fleet invite NAME` on the control plane.",
    HTTPStatus.UNAUTHORIZED: "Ask for a new token: `roas fleet invite NAME` on the control plane.",
    HTTPStatus.NOT_FOUND: "Is that address a control plane of ROAS Ops of this version?",
}


def _reason(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    return (
        detail
        if isinstance(detail, str) and len(detail) < 300 and detail.isprintable()
        else f"status {answer.status_code}."
    )
