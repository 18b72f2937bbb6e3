"""The rules of the taxonomy hold for the wordings of programs of different kinds."""

from functools import partial

import pytest

from adapters.pattern_files import shipped_set
from core.errors.classify import classify as classify_by
from models.errors import Category

classify = partial(classify_by, patterns=shipped_set())

RULES = {
    "a fault without a known cause is the application's own": (
        Category.APPLICATION_ERROR,
        "panic: runtime error: index out of range [3] with length 3",
        "Traceback (most recent call last):\n  File \"/app/main.py\", line 4, in <module>\nKeyError: 'price'",
        "** (FunctionClauseError) no function clause matching in Shop.Cart.total/1",
        "terminate called after throwing an instance of 'std::out_of_range'",
        "lua entry thread aborted: runtime error: /etc/nginx/app.lua:12: attempt to index a nil value (global 'x')",
        "SQLSTATE[22001]: String data, right truncated: 1406 Data too long for column 'title' at row 1",
    ),
    "an exit code alone is an exit": (
        Category.CONTAINER_EXITED,
        "web-1 exited with code 1",
        "app.service: Main process exited, code=exited, status=1/FAILURE",
        "PM2      | App [api:0] exited with code [1] via signal [SIGINT]",
    ),
    "Compose reports what did not start": (
        Category.DEPENDENCY_FAILED_START,
        "dependency failed to start: container shop-db-1 is unhealthy",
        "dependency failed to start: container shop-db-1 exited (1)",
        'ERROR: for web  Container "4f2a" is unhealthy.',
    ),
    "a probe or a balancer reports a failed check": (
        Category.HEALTHCHECK_FAILED,
        "Container shop-web-1 health_status: unhealthy: curl: (7) Failed to connect to localhost port 8080: refused",
        "[warning][health_checker] unhealthy host 172.18.0.4:8080 in cluster app: failed active health check",
        "[WARN]  agent: Check is now critical: check=service:web",
        "Readiness probe failed: HTTP probe failed with statuscode: 500",
    ),
    "a program reports what its partner refused": (
        Category.DEPENDENCY_REFUSED,
        "pika.exceptions.AMQPConnectionError: Connection to 172.18.0.5:5672 failed: [Errno 111] Connection refused",
        "Error: connect ECONNREFUSED 172.20.0.2:3306",
        "dial tcp 172.18.0.7:50051: connect: connection refused",
    ),
    "intact files of another version or key do not fit": (
        Category.STATE_MISMATCH,
        "DETAIL:  The data directory was initialized by PostgreSQL version 13, not compatible with version 16.",
        "java.lang.IllegalStateException: cannot downgrade a node from version [2.12.0] to version [2.9.0]",
        "java.lang.RuntimeException: Invalid cluster.id in: /data/meta.properties. Expected a1b2, but read c3d4",
        "cryptography.fernet.InvalidToken",
        "ERROR:  cannot execute INSERT in a read-only transaction",
    ),
    "a pid file that was left is no corruption": (
        Category.STATE_MISMATCH,
        "A server is already running. Check /app/tmp/pids/server.pid.",
        "httpd (pid 1) already running",
        "ERROR: Pidfile (celerybeat.pid) already exists.",
    ),
    "an alert with nothing refused is a threshold": (
        Category.PERFORMANCE_THRESHOLD,
        '[FIRING:1] HighRequestLatency (p99 2.3s > 1s, job="api", severity="warning")',
        "PROBLEM: High CPU utilization (over 90% for 5m) on host app01",
        "'app01' loadavg (5min) check failed: loadavg (5min) of 7.1 matches resource limit [loadavg (5min) > 6.0]",
    ),
    "a disk that is full is more than a threshold": (
        Category.DISK_FULL,
        "flood stage disk watermark [95%] exceeded on [aX][node-1][/data], all indices will be marked read-only",
        "disk resource limit alarm set on node rabbit@mq",
        "[FIRING:1] HostOutOfDiskSpace (disk is almost full)",
    ),
    "a required variable is missing": (
        Category.MISSING_ENV_SECRET,
        "error while interpolating services.web.environment.TOKEN: required variable TOKEN is missing a value",
        "/entrypoint.sh: line 4: DB_HOST: unbound variable",
        "required key DATABASE_URL missing value",
    ),
    "a path that may not be used": (
        Category.VOLUME_MOUNT,
        "PermissionError: [Errno 13] Permission denied: '/data/app.log'",
        "Error: EACCES: permission denied, open '/data/db.json'",
        "System.UnauthorizedAccessException: Access to the path '/app/data' is denied.",
    ),
    "a library is missing": (
        Category.RUNTIME_DEPENDENCY_MISSING,
        "ModuleNotFoundError: No module named 'psycopg2'",
        "error while loading shared libraries: libssl.so.1.1: cannot open shared object file: No such file",
        "java.lang.NoClassDefFoundError: org/slf4j/LoggerFactory",
    ),
    "a library has another version": (
        Category.PYTHON_IMPORT_CONFIG,
        "ImportError: cannot import name 'soft_unicode' from 'markupsafe'",
        "java.lang.NoSuchMethodError: 'void com.google.common.base.Preconditions.checkArgument(boolean)'",
        "Error [ERR_REQUIRE_ESM]: require() of ES Module /app/index.js from /app/run.js not supported.",
    ),
    "a certificate cannot be issued": (
        Category.TLS_CERTIFICATE,
        "acme: error: 403 :: urn:ietf:params:acme:error:unauthorized :: Invalid response from http://shop.example/x",
        "Some challenges have failed.\nCertbot failed to authenticate some domains (authenticator: standalone).",
        '{"level":"error","logger":"tls.obtain","msg":"could not get certificate from issuer","error":"caa"}',
    ),
    "the issuer limits its orders": (
        Category.EXTERNAL_API,
        '{"msg":"could not get certificate from issuer","error":"HTTP 429 urn:ietf:params:acme:error:rateLimited"}',
        "acme: error: 429 :: urn:ietf:params:acme:error:rateLimited :: too many certificates already issued",
        "There were too many requests of a given type :: Error creating new order :: too many certificates",
    ),
    "a transfer that broke off is its partner's": (
        Category.IMAGE_PULL_FAILED,
        "failed to register layer: unexpected EOF",
        'level=error msg="Download failed, retrying: unexpected EOF"',
        "error pulling image configuration: download failed after attempts: read tcp: connection reset by peer",
    ),
    "a control group is no disk": (
        Category.RESOURCE_LIMIT,
        "error adding pid 12 to cgroups: no space left on device",
        "kernel: cgroup: fork rejected by pids controller in /docker/4f2a",
        "mkdir /sys/fs/cgroup/memory/docker/4f2a: no space left on device",
    ),
    "what reports a state is no failure": (
        Category.BENIGN,
        "[2026-01-02 10:00:00 +0000] [1] [DEBUG] Settings:\n  worker_abort: <fn>\n  idle: timed out workers end",
        "npm warn EBADENGINE Unsupported engine {\nnpm warn EBADENGINE   required: { node: '>=20' },",
        "===== 120 passed, 2 skipped, 1 xfailed in 4.12s =====",
        "==> /var/log/app/exceptions_json.log <==",
        "65f1a2b3 conn=1003 fd=12 closed (connection lost)",
        "WARN the integration metrics is not installed, dashboards stay empty",
    ),
}


@pytest.mark.parametrize(
    ("category", "text"), [(category, text) for category, *texts in RULES.values() for text in texts]
)
def test_a_rule_holds_for_programs_of_different_kinds(category: Category, text: str) -> None:
    assert classify(text).category is category


def test_a_symptom_of_what_stops_a_start_counts_as_an_error() -> None:
    assert classify("ERROR the integration metrics is not installed").category is not Category.BENIGN


@pytest.mark.parametrize(
    ("category", "text"),
    [
        (
            Category.SERVICE_CONFIG_INVALID,
            "ERROR: bootstrap failed: deprecated setting [node.master] was removed in 8.0",
        ),
        (
            Category.SERVICE_CONFIG_INVALID,
            "[error]: config error: 'type' is deprecated and no longer accepted, use '@type'",
        ),
        (
            Category.DEPENDENCY_REFUSED,
            "MongoNetworkError: connection to 172.18.0.4:27017 closed: the server is going away",
        ),
        (Category.DEPENDENCY_REFUSED, "error: write tcp 172.18.0.3:40000->172.18.0.9:5432: write: broken pipe"),
        (Category.DISK_FULL, "ERROR: could not write cache file, no space left on device; skipping"),
        (
            Category.DATABASE_CORRUPT,
            "[ERROR] InnoDB: Database page corruption on disk; ignoring the page is not possible",
        ),
        (Category.MISSING_ENV_SECRET, "Error: No .env file found and DATABASE_URL is not set"),
        (
            Category.IMAGE_PULL_FAILED,
            "pull access denied for shop/web; warning: the legacy manifest format is deprecated",
        ),
    ],
)
def test_a_harmless_word_beside_a_cause_hides_nothing(category: Category, text: str) -> None:
    assert classify(text).category is category


def test_a_connection_belongs_to_the_side_with_the_port_of_a_client() -> None:
    assert classify("error: write tcp 172.18.0.2:443->10.0.0.9:50000: write: broken pipe").category is Category.BENIGN
