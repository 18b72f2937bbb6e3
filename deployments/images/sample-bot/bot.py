"""A service that behaves like a chat bot: it keeps a gateway session and Redis, and reports its health.

/healthz answers 200 while the gateway is connected and the heartbeat reaches Redis, else 503 with the reason.
/metrics is what Prometheus scrapes. What can be made to fail is listed by the command `fail` of this image.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

import redis

PORT = 8080
HEARTBEAT_SECONDS = 1.0
HEARTBEAT_STALE_SECONDS = 5.0
FLAP_SECONDS = 10.0
FAIL_FILE = Path("/tmp/fail")  # noqa: S108 - a tmpfs of this container alone


class Bot:
    """The state of the bot; each field but the request count has one writing thread."""

    def __init__(self, *, started_at: float) -> None:
        self.started_at = started_at
        self.gateway_connected = False
        self.heartbeat_at = 0.0
        self.heartbeats = 0
        self.heartbeat_failures = 0
        self.requests = 0
        self.redis_error = "no heartbeat yet"
        self.stopping = threading.Event()
        self.leaked: list[bytes] = []

    def reason_unhealthy(self, *, now: float) -> str | None:
        """Return why /healthz answers 503, or None when the bot is healthy."""
        mode = fail_mode()
        if mode == "unhealthy" or (mode == "flapping" and int(now / FLAP_SECONDS) % 2):
            return f"asked to fail: {mode}"
        if not self.gateway_connected:
            return "gateway disconnected"
        if now - self.heartbeat_at > HEARTBEAT_STALE_SECONDS:
            return f"redis: {self.redis_error}"
        return None


def fail_mode() -> str:
    """The failure asked for while running (the file), else at start (the variable), else nothing."""
    try:
        return FAIL_FILE.read_text().strip()
    except FileNotFoundError:
        return os.environ.get("FAIL_BOT", "").strip()


def log(level: str, message: str, **facts: object) -> None:
    """One line, the way the real bot logs: time, level, name, message."""
    details = " ".join(f"{name}={value}" for name, value in facts.items())
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"[{moment}] [{level:<8}] bot: {message} {details}".rstrip(), flush=True)


def keep_gateway(bot: Bot) -> None:
    """Hold the session: connected unless asked to fail; log every change."""
    while not bot.stopping.wait(0.2):
        connected = fail_mode() != "disconnected"
        if connected != bot.gateway_connected:
            bot.gateway_connected = connected
            if connected:
                log("INFO", "gateway session is ready", shard=0)
            else:
                log("WARNING", "gateway closed the connection", shard=0, code=1006)


def keep_heartbeat(bot: Bot, store: redis.Redis) -> None:
    """Write the heartbeat to Redis every second; a failure is logged when it begins and when it ends."""
    while True:
        now = time.time()
        try:
            store.set("bot:heartbeat", json.dumps({"at": now, "gateway": bot.gateway_connected}), ex=60)
        except redis.RedisError as error:
            bot.heartbeat_failures += 1
            if bot.redis_error != str(error):
                log("ERROR", f"redis heartbeat failed: {type(error).__name__}: {error}")
            bot.redis_error = str(error)
        else:
            if bot.redis_error:
                log("INFO", "redis heartbeat is written", key="bot:heartbeat")
            bot.redis_error = ""
            bot.heartbeat_at = now
            bot.heartbeats += 1
        if bot.stopping.wait(HEARTBEAT_SECONDS):
            return


def obey_failures(bot: Bot) -> None:
    """Carry out the failures that are actions and no answers."""
    while not bot.stopping.wait(0.2):
        match fail_mode():
            case "exit":
                log("CRITICAL", "RuntimeError: asked to fail: exit")
                os._exit(1)
            case "exit-later" if time.time() - bot.started_at > 5:
                log("CRITICAL", "RuntimeError: asked to fail: exit-later, after 5 s")
                os._exit(1)
            case "leak":
                bot.leaked.append(b"x" * 4_000_000)
            case "burn":
                _burn_for(0.2)


def _burn_for(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def fail_at_start() -> None:
    """Fail before the service listens, where that was requested."""
    match fail_mode():
        case "exit":
            sys.exit("RuntimeError: asked to fail: exit")
        case "login":
            sys.exit("discord.errors.LoginFailure: Improper token has been passed.")
        case "import":
            sys.exit("ModuleNotFoundError: No module named 'discord'")


class HealthHandler(BaseHTTPRequestHandler):
    """Answers /healthz and /metrics."""

    bot: Bot
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        """Answer one request."""
        self.bot.requests += 1
        mode = fail_mode()
        if mode == "hang":
            self.bot.stopping.wait(600)
        elif mode == "slow":
            self.bot.stopping.wait(4)
        match self.path:
            case "/healthz":
                reason = self.bot.reason_unhealthy(now=time.time())
                body = {"status": "ok" if reason is None else "unhealthy", "reason": reason}
                self._answer(200 if reason is None else 503, json.dumps(body), "application/json")
            case "/metrics":
                self._answer(200, metrics(self.bot), "text/plain; version=0.0.4")
            case _:
                self._answer(404, "not found\n", "text/plain")

    def _answer(self, status: int, body: str, content_type: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        try:
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            log("WARNING", "the client went away before it was answered", path=self.path)
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server passes
        """Say nothing: a line for each health check would bury the others."""


def metrics(bot: Bot) -> str:
    """The bot's numbers in Prometheus' text format."""
    samples = {
        "bot_gateway_connected": ("gauge", int(bot.gateway_connected)),
        "bot_heartbeats_total": ("counter", bot.heartbeats),
        "bot_heartbeat_failures_total": ("counter", bot.heartbeat_failures),
        "bot_heartbeat_timestamp_seconds": ("gauge", bot.heartbeat_at),
        "bot_http_requests_total": ("counter", bot.requests),
        "bot_start_timestamp_seconds": ("gauge", bot.started_at),
    }
    return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in samples.items())


def main() -> None:
    """Run until SIGTERM or SIGINT; exit 0."""
    fail_at_start()
    bot = Bot(started_at=time.time())
    store = redis.Redis(
        host=os.environ.get("REDIS_HOST", "redis"),
        password=os.environ["SAMPLE_REDIS_PASSWORD"],
        socket_timeout=2,
        socket_connect_timeout=2,
    )
    HealthHandler.bot = bot
    server = ThreadingHTTPServer(("0.0.0.0", PORT), HealthHandler)  # noqa: S104 - inside a container
    server.daemon_threads = True

    def stop(signum: int, _frame: FrameType | None) -> None:
        log("INFO", "stopping", signal=signal.Signals(signum).name)
        bot.stopping.set()
        # From another thread: shutdown waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threads = [
        threading.Thread(target=keep_gateway, args=(bot,)),
        threading.Thread(target=keep_heartbeat, args=(bot, store)),
        threading.Thread(target=obey_failures, args=(bot,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    log("INFO", "listening", port=PORT)
    server.serve_forever(poll_interval=0.1)
    store.close()
    log("INFO", "stopped")


if __name__ == "__main__":
    main()
