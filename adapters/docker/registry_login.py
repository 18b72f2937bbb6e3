"""The login that Docker keeps for a registry: the one that the SDK gives to the engine for an image."""

from __future__ import annotations

from models.failures import EngineError


def registry_login(host: str) -> tuple[str, str] | None:
    """Return user and password of `docker login`, from its file or its credential helper; None without a login.

    The user is empty where the password is an identity token.

    Raises:
        EngineError: Docker's configuration or its helper does not say.
    """
    # Only a sync asks, and the SDK takes a while to import.
    from docker import auth
    from docker.errors import DockerException

    try:
        login = auth.load_config().resolve_authconfig(host) or {}
    except (DockerException, ValueError, OSError, TypeError, AttributeError, KeyError) as error:
        raise EngineError(
            f"Docker's configuration does not say who logs in at {host}: {type(error).__name__};",
            advice=f"`docker login {host}` as the user that runs roas writes it anew.",
        ) from error
    user, password = (str(login.get(key.title()) or login.get(key) or "") for key in ("username", "password"))
    password = str(login.get("IdentityToken") or password)
    return (user, password) if password else None
