"""Who reaches the page: each test makes an attack, or signs in as a person does."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from adapters.server.page_accounts import add_account, remove_account
from adapters.server.page_sessions import INVITATION_SECONDS, SESSION_SECONDS, PageSessions
from flows.page.identity import TRIES_A_MINUTE
from flows.page.sign_in import safe_place
from models.page_access import Viewer
from tests.integration.page.page_clients import (
    AUTH_STRING,
    ORIGIN,
    SECURE_ORIGIN,
    client,
    hidden,
    one_time_path,
    own_password,
)

ROOT = Path(__file__).parents[3]
PASSWORD = "correct horse battery"
FORM = {"origin": ORIGIN}
AS_A_BROWSER = {"accept": "text/html", "sec-fetch-mode": "navigate"}


async def test_a_sign_in_by_address_works_once_and_names_its_person(tmp_path: Path) -> None:
    async with client(tmp_path) as ann, client(tmp_path) as thief:
        path = await one_time_path(ann, "ann")

        entered = await ann.get(f"{path}?next=/roas/environments/shop")
        reused = await thief.get(path)

        assert (entered.status_code, entered.headers["location"]) == (303, "/roas/environments/shop")
        assert "ann" in (await ann.get("/roas/me")).text
        assert reused.status_code == 403
        assert "set-cookie" not in reused.headers
        assert (await thief.get("/roas/me")).status_code == 401


async def test_a_browser_that_loads_ahead_does_not_use_a_sign_in_up(tmp_path: Path) -> None:
    async with client(tmp_path) as ann:
        path = await one_time_path(ann)

        ahead = await ann.get(path, headers={"sec-purpose": "prefetch;prerender"})
        asked = await ann.head(path)

        assert (ahead.status_code, asked.status_code) == (503, 503)
        assert (await ann.get(path)).status_code == 303


def test_a_sign_in_by_address_and_a_session_expire(tmp_path: Path) -> None:
    now = 1_000_000.0
    sessions = PageSessions(tmp_path, clock=lambda: now)
    used, old = sessions.invite("ann", "credential"), sessions.invite("ann", "credential")
    token = sessions.open(Viewer(name="ann", may_write=True), "credential")

    assert sessions.redeem(used, "credential") == "ann"
    assert sessions.redeem(used, "credential") is None
    now += INVITATION_SECONDS
    assert sessions.redeem(old, "credential") is None
    assert sessions.find(token) is not None
    now += SESSION_SECONDS - INVITATION_SECONDS
    assert sessions.find(token) is None


def test_a_sign_in_that_was_made_with_an_earlier_password_is_refused(tmp_path: Path) -> None:
    sessions = PageSessions(tmp_path)

    assert sessions.redeem(sessions.invite("ann", "before"), "after") is None


async def test_no_secret_is_in_the_file_of_sessions(tmp_path: Path) -> None:
    async with client(tmp_path) as ann:
        path = await one_time_path(ann)
        entered = await ann.get(await one_time_path(ann))
    content = (tmp_path / "page.db").read_bytes()

    assert path.rpartition("/")[2].encode() not in content
    assert entered.cookies["roas_14900"].encode() not in content
    assert AUTH_STRING.partition(":")[2].encode() not in content
    assert stat.S_IMODE((tmp_path / "page.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("path", ["/roas", "/roas/", "/roas/me", "/roas/environments/shop", "/roas/do/stop/shop"])
async def test_without_a_sign_in_nothing_is_shown(tmp_path: Path, path: str) -> None:
    async with client(tmp_path) as stranger:
        program, browser = await stranger.get(path), await stranger.get(path, headers=AS_A_BROWSER)
        sent = await stranger.post(path, data={"csrf": ""}, headers=FORM)
        guessed = await stranger.get(path, headers={"cookie": "roas_14900=guess"})

    assert program.status_code == sent.status_code == guessed.status_code == 401
    assert (browser.status_code, browser.headers["location"].partition("?")[0]) == (303, "/roas/sign-in")


@pytest.mark.parametrize("path", ["/roasted", "/", "/api/admin/version"])
async def test_what_is_not_below_the_page_is_none_of_its_business(tmp_path: Path, path: str) -> None:
    async with client(tmp_path) as program:
        assert (await program.get(path)).json()["path"] == path


@pytest.mark.parametrize("origin", ["http://attacker.example", "http://127.0.0.1:1", "null", "https://127.0.0.1:14900"])
async def test_a_page_of_another_origin_sends_no_form(tmp_path: Path, origin: str) -> None:
    async with client(tmp_path) as ann:
        await ann.get(await one_time_path(ann))
        csrf = hidden(await ann.get("/roas/me"), "csrf")

        sent = await ann.post("/roas/sign-out", data={"csrf": csrf}, headers={"origin": origin})

        assert sent.status_code == 403
        assert (await ann.get("/roas/me")).status_code == 200


async def test_another_host_name_is_refused(tmp_path: Path) -> None:
    async with client(tmp_path, "http://attacker.example:14900") as rebound:
        assert (await rebound.get("/roas/sign-in")).status_code == 403


@pytest.mark.parametrize("csrf", ["", "guess", "é"])
async def test_a_form_without_the_token_of_its_session_does_nothing(tmp_path: Path, csrf: str) -> None:
    async with client(tmp_path) as ann, client(tmp_path) as bob:
        await ann.get(await one_time_path(ann))
        await bob.get(await one_time_path(bob))
        of_bob = hidden(await bob.get("/roas/me"), "csrf")

        answers = [
            await ann.post("/roas/sign-out", data={"csrf": csrf}, headers=FORM),
            await ann.post("/roas/sign-out", data={"csrf": of_bob}, headers=FORM),
            await ann.post("/roas/sign-out", data={"csrf": hidden(await ann.get("/roas/me"), "csrf")}),
        ]

        assert [answer.status_code for answer in answers] == [403, 403, 403]
        assert (await ann.get("/roas/me")).status_code == 200


async def test_a_form_has_a_known_type_and_a_bounded_size(tmp_path: Path) -> None:
    async with client(tmp_path) as ann:
        await ann.get(await one_time_path(ann))
        csrf = hidden(await ann.get("/roas/me"), "csrf")

        as_json = await ann.post("/roas/sign-out", json={"csrf": csrf}, headers=FORM)
        large = await ann.post("/roas/sign-out", data={"csrf": csrf, "more": "x" * 70_000}, headers=FORM)
        other = await ann.delete("/roas/me")

    assert [as_json.status_code, large.status_code, other.status_code] == [415, 413, 405]


async def test_the_cookie_is_kept_from_scripts_from_other_sites_and_on_tls_from_other_ports(tmp_path: Path) -> None:
    async with client(tmp_path) as plain, client(tmp_path, SECURE_ORIGIN) as secure:
        on_loopback = (await plain.get(await one_time_path(plain))).headers["set-cookie"]
        on_tls = (await secure.get(await one_time_path(secure))).headers["set-cookie"]

        assert on_loopback.startswith("roas_14900=")
        assert on_tls.startswith("__Host-roas=")
        assert {"HttpOnly", "SameSite=strict", "Path=/roas"} <= set(on_loopback.split("; "))
        assert {"HttpOnly", "SameSite=strict", "Path=/", "Secure"} <= set(on_tls.split("; "))
        assert (await secure.get("/roas/me")).status_code == 200


async def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(tmp_path: Path) -> None:
    async with client(tmp_path) as ann, client(tmp_path) as copy:
        await ann.get(await one_time_path(ann))
        copy.cookies = httpx.Cookies(ann.cookies)
        csrf = hidden(await ann.get("/roas/me"), "csrf")

        await ann.post("/roas/sign-out", data={"csrf": csrf}, headers=FORM)

        assert (await copy.get("/roas/me")).status_code == 401


@pytest.mark.parametrize("form", [{"password": AUTH_STRING}, {"name": "roas", "password": AUTH_STRING[5:]}])
async def test_the_password_of_the_server_signs_in(tmp_path: Path, form: dict[str, str]) -> None:
    async with client(tmp_path) as ann:
        entered = await ann.post("/roas/sign-in", data=form | {"next": "/roas/tickets"}, headers=FORM)

        assert (entered.status_code, entered.headers["location"]) == (303, "/roas/tickets")
        assert (await ann.get("/roas/me")).status_code == 200


async def test_an_account_signs_in_with_its_own_rights_until_it_is_removed(tmp_path: Path) -> None:
    add_account(tmp_path, "vera", PASSWORD, may_write=False)
    async with client(tmp_path) as vera, client(tmp_path) as program:
        await vera.post("/roas/sign-in", data={"name": "vera", "password": PASSWORD}, headers=FORM)
        login = httpx.BasicAuth("vera", PASSWORD)

        shown = await vera.get("/roas/me")
        assert "vera" in shown.text
        assert "read only" in shown.text
        assert (await program.get("/roas/me", auth=login)).status_code == 200
        assert (await program.post("/roas/invitations", data={"name": "roas"}, auth=login)).status_code == 403

        remove_account(tmp_path, "vera")
        assert (await vera.get("/roas/me")).status_code == 401
        assert (await program.get("/roas/me", auth=login)).status_code == 401


async def test_another_password_or_other_rights_end_the_sessions_of_before(tmp_path: Path) -> None:
    add_account(tmp_path, "vera", PASSWORD, may_write=True)
    async with client(tmp_path) as vera:
        for may_write, password in ((False, PASSWORD), (False, PASSWORD + "!")):
            await vera.post("/roas/sign-in", data={"name": "vera", "password": PASSWORD}, headers=FORM)
            assert (await vera.get("/roas/me")).status_code == 200
            add_account(tmp_path, "vera", password, may_write=may_write)
            assert (await vera.get("/roas/me")).status_code == 401


@pytest.mark.parametrize("name", ["vera", "stranger"])
async def test_guessing_passwords_is_bounded_and_shuts_the_owner_not_out(tmp_path: Path, name: str) -> None:
    add_account(tmp_path, "vera", PASSWORD, may_write=True)
    async with client(tmp_path) as attacker:
        answers = [
            await attacker.post("/roas/sign-in", data={"name": name, "password": f"guess {number}"}, headers=FORM)
            for number in range(TRIES_A_MINUTE + 1)
        ]
        right = await attacker.post("/roas/sign-in", data={"password": AUTH_STRING}, headers=FORM)

    assert [answer.status_code for answer in answers] == [403] * TRIES_A_MINUTE + [429]
    assert right.status_code == 303


async def test_guessing_addresses_is_bounded(tmp_path: Path) -> None:
    async with client(tmp_path) as attacker:
        answers = [await attacker.get(f"/roas/sign-in/guess-{number}") for number in range(TRIES_A_MINUTE + 1)]

    assert [answer.status_code for answer in answers] == [403] * TRIES_A_MINUTE + [429]


async def test_a_browser_that_was_asked_for_the_password_still_needs_the_token(tmp_path: Path) -> None:
    """A proxy may ask for it, and the browser then sends it with the form of any page."""
    async with client(tmp_path) as browser:
        csrf = hidden(await browser.get("/roas/me", auth=own_password()), "csrf")
        bare = await browser.post("/roas/invitations", data={"name": "ann"}, headers=FORM, auth=own_password())
        of_page = await browser.post("/roas/invitations", data={"csrf": csrf}, headers=FORM, auth=own_password())

    assert (bare.status_code, of_page.status_code) == (403, 200)


@pytest.mark.parametrize(
    "place",
    [
        "https://attacker.example/",
        "//attacker.example/roas/",
        "/roas//attacker.example",
        "/roas/\\attacker.example",
        "/roasted",
        "/roas/sign-in?next=/roas/sign-in",
        "/roas/\r\nset-cookie: a=b",
        "javascript:alert(1)",
        "/roas/" + "x" * 3000,
        "",
    ],
)
async def test_a_sign_in_leads_to_a_place_of_the_page_alone(tmp_path: Path, place: str) -> None:
    assert safe_place(place) == "/roas/"
    async with client(tmp_path) as ann:
        entered = await ann.get(await one_time_path(ann), params={"next": place})

    assert entered.headers["location"] == "/roas/"


async def test_a_link_from_a_chat_is_asked_for_again_by_the_page_itself(tmp_path: Path) -> None:
    """The browser withholds the cookie from a request that another site began."""
    async with client(tmp_path) as ann:
        headers = AS_A_BROWSER | {"sec-fetch-site": "cross-site"}
        answer = await ann.get('/roas/tickets/T-1?x="><script>alert(1)</script>', headers=headers)

    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0; url=/roas/tickets/T-1?x=' in answer.text
    assert "<script" not in answer.text


@pytest.mark.parametrize("name", ['<script>alert(1)</script>"', "x" * 5000, "a\x1b[31m\nb", "\u202egnp.exe"])
async def test_a_hostile_name_is_text(tmp_path: Path, name: str) -> None:
    async with client(tmp_path) as ann:
        await ann.get(await one_time_path(ann, name))
        shown = (await ann.get("/roas/me")).text

    assert "<script>alert" not in shown
    assert not set(shown) & {"\x1b", "\u202e"}
    assert len(shown) < 20_000


@pytest.mark.parametrize(
    "path", ["/roas/sign-in", "/roas/me", "/roas/nothing", "/roas/sign-in/guess", "/roas/static/page.css"]
)
async def test_every_answer_forbids_what_it_does_not_need(tmp_path: Path, path: str) -> None:
    async with client(tmp_path) as ann:
        strange = await ann.get(path)
        await ann.get(await one_time_path(ann))
        answers = [strange, await ann.get(path)]

    for headers in (answer.headers for answer in answers):
        assert headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert headers["referrer-policy"] == "same-origin"
        assert ("no-store" in headers["cache-control"]) is ("static" not in path)


async def test_a_broken_file_of_sessions_lets_nobody_in(tmp_path: Path) -> None:
    async with client(tmp_path) as ann:
        await ann.get(await one_time_path(ann))
        (tmp_path / "page.db").write_bytes(b"no database" * 100)

        answer = await ann.get("/roas/me")

    assert answer.status_code == 503
    assert "page.db" in answer.text


def test_the_page_imports_nothing_that_only_operations_need() -> None:
    """The server holds what it imports as long as it runs; 15 MiB are what the page may add."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_"))}
    code = "import flows.page.access, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )

    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert "starlette" in imported
    assert not imported & {"docker", "pyarrow", "redis", "requests", "cli"}
