"""Classification: the cause is named by its own words, or by the facts beside them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.pattern_files import harmless_lines, shipped_set
from core.errors.classify import as_failure
from core.errors.classify import classify as classify_by
from models.errors import Category, Evidence, Severity, Strategy, Verdict

classify = partial(classify_by, patterns=shipped_set())

SAYINGS = [
    ("Bind for 0.0.0.0:8123 failed: port is already allocated", Category.PORT_CONFLICT, Strategy.FREE_PORT),
    ("listen tcp4 0.0.0.0:8123: bind: address already in use", Category.PORT_CONFLICT, Strategy.FREE_PORT_MANUAL),
    ("dial tcp 10.9.8.7:6379: connect: connection refused", Category.DEPENDENCY_REFUSED, None),
    ("lookup cache on 127.0.0.11:53: no such host", Category.DNS_FAILURE, None),
    ("write /data/x: no space left on device", Category.DISK_FULL, Strategy.PRUNE_DISK),
    ("inotify_add_watch: no space left on device", Category.RESOURCE_LIMIT, Strategy.FIX_RESOURCE_LIMITS),
    ("NOAUTH Authentication required.", Category.REDIS_STATE, Strategy.FIX_CREDENTIALS),
    ("LOADING Redis is loading the dataset in memory", Category.REDIS_STATE, Strategy.WAIT_AND_RETRY),
    ("ModuleNotFoundError: No module named 'cogs'", Category.RUNTIME_DEPENDENCY_MISSING, Strategy.FIX_CONFIG),
    ("database disk image is malformed", Category.DATABASE_CORRUPT, Strategy.RESTORE_DATABASE),
    ("Container 17 is restarting, wait until it runs", Category.CONTAINER_EXITED, Strategy.INVESTIGATE),
    ("bot-1 exited with code 1", Category.CONTAINER_EXITED, Strategy.RESTART_SERVICE),
    (
        "Image shop:1 of web is not here and cannot be had: no tag.",
        Category.IMAGE_PULL_FAILED,
        Strategy.FIX_CONFIG,
    ),
    ("Port 8080/tcp of web is taken by nginx (pid 7).", Category.PORT_CONFLICT, Strategy.FREE_PORT_MANUAL),
    ("Container name web of web is taken by a container of project old.", Category.NAME_CONFLICT, Strategy.FIX_CONFIG),
    ("/srv/in of web cannot be mounted as it is: it does not exist.", Category.VOLUME_MOUNT, Strategy.FIX_CONFIG),
    ("Variable TOKEN is not set or empty.", Category.MISSING_ENV_SECRET, Strategy.FIX_CONFIG),
    ("The application needs 3 new networks, but the engine has addresses for 1 more.", Category.DOCKER_NETWORK, None),
    ("Only 12 MiB are free on the engine's disk.", Category.DISK_FULL, Strategy.FIX_HOST),
    ("dev did not start within 40 s, still awaited: web", Category.TIMEOUT, Strategy.INVESTIGATE),
    (
        "load_1m of host is not as usual: Load 1m 46, never above 40 in one day; usual 31",
        Category.PERFORMANCE_THRESHOLD,
        Strategy.INVESTIGATE,
    ),
    (
        "store_bytes of host is predicted: store_bytes rises by 9 MiB an hour and reaches 2 GiB in about 3 h",
        Category.PERFORMANCE_THRESHOLD,
        Strategy.INVESTIGATE,
    ),
    ("MISCONF cannot write: No space left on device", Category.REDIS_STATE, Strategy.INVESTIGATE),
    ("master timeout: no data from it", Category.REDIS_STATE, Strategy.INVESTIGATE),
    ("short read while loading a.aof", Category.REDIS_STATE, Strategy.RESTORE_DATABASE),
    ("[ERROR] InnoDB: page 7 of space 3 consists of zero bytes", Category.DATABASE_CORRUPT, Strategy.RESTORE_DATABASE),
    ("[ERROR] InnoDB: preallocating ib_logfile9 failed with error 28", Category.DISK_FULL, Strategy.PRUNE_DISK),
    ("could not access the server configuration file a.conf", Category.DATABASE_CORRUPT, None),
    ("the data directory lock file is invalid", Category.DATABASE_LOCKED, None),
    ("web-7  0/1  OOMKilled  0  3s", Category.OOM_KILLED, None),
    ("container oom 0123456789abcdef (image=shop)", Category.OOM_KILLED, None),
    ("read wss://gateway.discord.gg/?v=9: connection reset by peer", Category.DISCORD_API, Strategy.WAIT_AND_RETRY),
    ("websocket: close 1001 (going away)", Category.DISCORD_API, Strategy.WAIT_AND_RETRY),
    ("failed to add the pair veth17 <=> veth18: operation not supported", Category.KERNEL_NETWORK_DRIVER, None),
    ("open sysctl net.ipv4.x: reopen fd 9: permission denied", Category.KERNEL_NETWORK_DRIVER, Strategy.FIX_HOST),
    ("running exec setns process for init: exit status 34", Category.KERNEL_NETWORK_DRIVER, Strategy.FIX_HOST),
    ("OCI runtime exec failed: exec failed: error executing setns process", Category.CONTAINER_EXITED, None),
    ("Clock is out of sync by 9 s", Category.KERNEL_NETWORK_DRIVER, Strategy.FIX_HOST),
    ("docker.socket: Control process exited, status=217", Category.DOCKER_DAEMON_UNREACHABLE, None),
    ("nginx: [emerg] open() /a/b.log failed (2: No such file or directory)", Category.VOLUME_MOUNT, None),
    ('nginx: [emerg] unknown directive "sevrer"', Category.SERVICE_CONFIG_INVALID, Strategy.FIX_CONFIG),
    ("This image requires the SHOP_TOKEN environment variable", Category.MISSING_ENV_SECRET, Strategy.FIX_CONFIG),
    ("denied: too many failed login attempts", Category.IMAGE_PULL_FAILED, Strategy.FIX_CREDENTIALS),
    ("No such file or directory: '/app/cogs/shop.py'", Category.PYTHON_IMPORT_CONFIG, Strategy.FIX_CONFIG),
    ("Received unregistered task of type 'shop.x'", Category.PYTHON_IMPORT_CONFIG, Strategy.FIX_CONFIG),
    (
        'process "/bin/sh -c make" did not complete successfully: exit code: 2',
        Category.BUILD_FAILED,
        Strategy.FIX_CONFIG,
    ),
    ("Unable to get a connection to the search service", Category.DEPENDENCY_REFUSED, None),
    ("Too many unacknowledged messages on queue mail (900)", Category.PERFORMANCE_THRESHOLD, None),
    ("/bin/sh: fork: retry: No child processes", Category.RESOURCE_LIMIT, Strategy.FIX_RESOURCE_LIMITS),
    ("exec /probe.sh: resource temporarily unavailable", Category.RESOURCE_LIMIT, Strategy.FIX_RESOURCE_LIMITS),
    ("unable to connect: [Errno -3] Temporary failure in name resolution", Category.DNS_FAILURE, None),
    ("Cannot locate specified Dockerfile: a/b", Category.BUILD_FAILED, Strategy.FIX_CONFIG),
    ("invalid PID mode: sideways", Category.COMPOSE_INVALID, Strategy.FIX_CONFIG),
    ("--a and --b can't be used together", Category.COMPOSE_INVALID, Strategy.FIX_CONFIG),
    ("invalid ip-range 10.0.0.0/8: parent subnet 10.1.0.0/16", Category.DOCKER_NETWORK, Strategy.FIX_CONFIG),
    ("cannot start a paused container", Category.CONTAINER_EXITED, Strategy.INVESTIGATE),
    ("ERR_SSL_SOME_ALERT", Category.TLS_CERTIFICATE, None),
    ("CannotConnectNowError", Category.DEPENDENCY_REFUSED, Strategy.WAIT_AND_RETRY),
    (
        "Cannot connect to host api.telegram.org:443 [Connect call failed]",
        Category.DEPENDENCY_REFUSED,
        Strategy.WAIT_AND_RETRY,
    ),
    ("ERROR: Network web needs to be recreated - options have changed", Category.DOCKER_NETWORK, Strategy.FIX_CONFIG),
    ("WARN Connection to node 3 (/10.0.0.3:9092) could not be established.", Category.DEPENDENCY_REFUSED, None),
    ("set apparmor profile shop: no such file or directory", Category.DOCKER_PERMISSION_DENIED, Strategy.FIX_HOST),
    ("mkdir /sys/fs/cgroup/memory/x: permission denied", Category.KERNEL_NETWORK_DRIVER, Strategy.FIX_HOST),
    ("thread 'worker-2' panicked at src/a.rs:7:1", Category.APPLICATION_ERROR, Strategy.INVESTIGATE),
    ('ERROR: for web  Container "4f" is unhealthy.', Category.DEPENDENCY_FAILED_START, None),
    ('ImageNotFound: ("No such image: shop:1")', Category.IMAGE_PULL_FAILED, Strategy.PULL_IMAGE),
    ("DiscordAPIError[20028]: slow down", Category.DISCORD_API, Strategy.WAIT_AND_RETRY),
    ('level=info msg=supervised event="exited: bot (exit status 3; not expected)"', Category.CONTAINER_EXITED, None),
    ("path /srv/in is mounted on / but it is not a shared mount", Category.VOLUME_MOUNT, Strategy.FIX_CONFIG),
    ("creating mount source path '/srv/x': mkdir /srv/x: permission denied", Category.VOLUME_MOUNT, None),
    ("getaddrinfo ENOTFOUND cache]", Category.DNS_FAILURE, Strategy.RESTART_DEPENDENCY_THEN_SERVICE),
    ("Flow run exceeded wait timeout of 30 seconds", Category.TIMEOUT, Strategy.INVESTIGATE),
    ("NotRegistered: 'shop.mail'", Category.PYTHON_IMPORT_CONFIG, Strategy.FIX_CONFIG),
    ("7:S 01 Jan 2026 10:00:00.000 # Connection with master lost.", Category.REDIS_STATE, Strategy.INVESTIGATE),
    ("7:M 01 Jan 2026 10:00:00.000 # Fatal: can't do it", Category.REDIS_STATE, Strategy.INVESTIGATE),
    ("write /proc/self/attr/keycreate: disk quota exceeded", Category.RESOURCE_LIMIT, Strategy.FIX_RESOURCE_LIMITS),
    ("kernel: INFO: task shopd:17 blocked for more than 120 seconds.", Category.KERNEL_NETWORK_DRIVER, None),
    ("driver overlay2 failed to remove root filesystem: device or resource busy", Category.VOLUME_MOUNT, None),
    ("shop: acme: Error 429 - rateLimited", Category.EXTERNAL_API, Strategy.WAIT_AND_RETRY),
    ("SQLITE_IOERR: disk I/O error", Category.VOLUME_MOUNT, Strategy.INVESTIGATE),
    ('Head "https://hub/v2/shop/manifests/1": unauthorized', Category.IMAGE_PULL_FAILED, Strategy.FIX_CREDENTIALS),
    ("block: usage exceeded flood-stage watermark", Category.DISK_FULL, Strategy.PRUNE_DISK),
    ("warning: unable to spawn ./run: Permission denied", Category.EXEC_FORMAT_ENTRYPOINT, Strategy.FIX_CONFIG),
    ("error creating aufs mount to /x: invalid argument", Category.KERNEL_NETWORK_DRIVER, Strategy.FIX_HOST),
    ("panicked: Gateway(DisallowedGatewayIntents)", Category.DISCORD_API, Strategy.FIX_CONFIG),
    ("error: set SHOP_KEY in your environment", Category.MISSING_ENV_SECRET, Strategy.FIX_CONFIG),
    ("pg_ctl: could not start server", Category.CONTAINER_EXITED, Strategy.INVESTIGATE),
    ("Warning  FailedCreatePodSandBox  failed to set up sandbox container network", Category.DOCKER_NETWORK, None),
    ("Container shop-web-1 is not running", Category.CONTAINER_EXITED, Strategy.RESTART_SERVICE),
    ("1/1: no suitable node (1 node not available for new tasks)", Category.CONTAINER_EXITED, Strategy.INVESTIGATE),
    ("no suitable node (insufficient resources on 2 nodes)", Category.RESOURCE_LIMIT, Strategy.FIX_RESOURCE_LIMITS),
    ("container cannot be disconnected from host network", Category.DOCKER_NETWORK, Strategy.FIX_CONFIG),
    ('"Output": "wget: download timed out"', Category.HEALTHCHECK_FAILED, Strategy.RESTART_SERVICE),
    ("exec /probe.sh failed: Permission denied", Category.EXEC_FORMAT_ENTRYPOINT, Strategy.FIX_CONFIG),
    ("Shard 3 disconnected: code 1006, reconnecting", Category.DISCORD_API, Strategy.WAIT_AND_RETRY),
    ("MemoryError: Unable to allocate 2 GiB for an array", Category.OOM_KILLED, Strategy.RESTART_SERVICE),
    ("Worker with pid 17 was terminated due to signal 9", Category.CONTAINER_EXITED, Strategy.INVESTIGATE),
    ("bot-1 exited with code 1 (restarting)", Category.CONTAINER_EXITED, Strategy.INVESTIGATE),
    ("error: not connected to MQTT server", Category.DEPENDENCY_REFUSED, None),
    ("max number of clients + cluster connections reached", Category.REDIS_STATE, Strategy.FIX_RESOURCE_LIMITS),
    ("cannot open the stick: no such file, /dev/ttyS9", Category.KERNEL_NETWORK_DRIVER, Strategy.FIX_HOST),
    ("error opening /srv/a.log: no such file or directory", Category.VOLUME_MOUNT, Strategy.FIX_CONFIG),
    ("Container shop-web-1  Unhealthy", Category.HEALTHCHECK_FAILED, Strategy.RESTART_SERVICE),
    ("the host did not properly respond after a while", Category.TIMEOUT, Strategy.WAIT_AND_RETRY),
]
HARMLESS = [
    "[ 12.5] br-17: port 2(veth1a2b) entered blocking state",
    "[ 12.6] device veth1a2b left promiscuous mode",
    'level=warning msg="no such directory /plugins, skipping it"',
    "[Warning] cannot set O_DIRECT: Invalid argument, continuing anyway",
    "WARN volume data already exists but was not created by Compose",
    "WARNING: Network shop_default not found.",
    "[Warning] [InnoDB] Allocated space id 7 for shop/orders, old maximum was 0",
    "INFO discord.gateway: Shard ID 0 session has been invalidated.",
    "I0203 10:00:00.1 1 server.go:12] error cache is empty",
    "docker.service: Main process exited, code=exited, status=0/SUCCESS",
    # a line of information, in the shapes loggers give it, tells of what the program has dealt with itself
    'level=info msg="store locked, sleeping then retrying" error="database is locked"',
    "2026-01-01 10:00:00,000 watch.py:7 - tick() INFO: disk image is malformed, read again",
    "[2026-01-01 10:00:00: DEBUG/MainProcess] too many open files (limit 1024) would be refused",
    '{"t":"now","s":"I","c":"NETWORK","msg":"connection reset by peer"}',
    "INFO[0003] no space left on device seen once",
    "DEBU[0003] failed to delete task 7: container not created: not found",
    # what might come of it is advice
    "[WARNING] this folder may lead to data corruption and data loss",
    "[Warn] /sys/fs/cgroup/x not writable, functionality unavailable",
    "WARN  ==> the file is not writable, settings will not be applied",
    "WARN  ==> ALLOW_EMPTY=yes is set: for safety reasons, do not use it where others can reach it",
    # settings and requests that name a failure
    "Using timeout of 30 seconds",
    "connection timeout set to 10s",
    '10.0.0.7 - "GET /error/timeout.js HTTP/1.1" 200 17',
    "EXT4-fs (sda1): mounted. Opts: errors=remount-ro",
    # it went well in the end
    "Connected to the cache after 2 failed attempts",
    "systemd[1]: Started Out-Of-Memory Killer.",
    'level=warning msg="could not find network named shop! Defaulting to the first one."',
    "2026/01/01 INF main.go:7 > no key, proceeding without encryption key",
    "2026-01-01T10:00:00Z WRN cannot tell what the client meant",
    "(node:7) Warning: property of module inside circular dependency",
    "the 'oldway' command is deprecated and removed in 2.0, please use 'newway'",
    "watching: monitoring containers for unhealthy status",
    # walked past
    "[pool www] 'user' directive is ignored when the master is not running as root",
    "Not Found: /icon.ico",
    "could not read the old cache: connection refused; falling back to an empty one",
    "error reading from the socket: broken pipe, this should be safe to ignore",
    "kernel: overlayfs: missing value, ignoring",
    "[7] FATAL:  terminating connection due to administrator command",
    'LOG:  background worker "launcher" (PID 7) exited with exit code 1',
    "[WARN  tini (7)] Tini is not running as PID 1",
    "20-shop.sh: error: ipv6 not available",
    "Processing signal 'terminated'",
    "UserWarning: field has conflict with a protected name",
    '[error] 7#7: *1 open() "/srv/icon.ico" failed (2: No such file or directory), client: 10.0.0.7',
    # names of limits and files that nothing has happened to
    "limits of this process: nofile 65536, memlock unlimited, inotify watches 8192",
    "cgroup driver: systemd cgroup, userns: host, max_connections = 100",
    "opened ib_logfile0, pg_control and 3 meta.json",
    "shop-1 | W0101 10:00:00.000001 1 machine.go:7] cannot read the vendor",
    "[I 260101 10:00:00 web:7] could not reach the old node, taking the new one",
    "on_failure=ignore max_failures=3 timeout=30s",
    "ErrorDocument 404 /404.html",
    "sh: locale: not found",
    "bash: no job control in this shell",
    # numbers that are codes elsewhere
    "10.0.0.7 sent 504 bytes and got 502 of 4004 rows, 4012 left to close",
    "took 111 ms (111) for port 10061",
    "memory pressure state: 0, temperature 41, kernel module list read",
]


@pytest.mark.parametrize(("text", "category", "strategy"), SAYINGS)
def test_a_cause_is_known_by_its_words(text: str, category: Category, strategy: Strategy | None) -> None:
    verdict = classify(text)

    assert verdict.category is category
    assert strategy in (None, verdict.strategy)
    assert verdict.span is not None
    assert verdict.pattern_name is not None


def test_the_inner_cause_wins_over_its_wrappers() -> None:
    wrapped = (
        "failed to create task: OCI runtime create failed: unable to join session keyring:"
        " unable to create session key: disk quota exceeded"
    )

    assert classify(wrapped).category is Category.RESOURCE_LIMIT
    assert classify("pull failed: dial tcp: lookup hub: no such host").category is Category.DNS_FAILURE


def test_the_reason_quotes_the_words_that_decided() -> None:
    text = "api failed: connection refused by 10.0.0.1"
    verdict = classify(text)

    assert verdict.span is not None
    assert text[slice(*verdict.span)] in verdict.reason


@pytest.mark.parametrize("line", [*harmless_lines(), *HARMLESS])
def test_a_harmless_line_is_no_error(line: str) -> None:
    assert classify(line).category is Category.BENIGN


def test_a_harmless_line_beside_an_error_does_not_hide_it() -> None:
    assert classify("old-1 exited with code 0\nbot-1 exited with code 1").category is Category.CONTAINER_EXITED


def test_an_unknown_error_is_grouped_by_its_template_and_never_acted_on() -> None:
    verdict = classify("ERROR flux capacitor 17 misaligned: gigawatts wrong")

    assert verdict.category is Category.UNKNOWN
    assert not verdict.strategy.automatic
    assert verdict.template == "ERROR flux capacitor <number> misaligned: gigawatts wrong"


def test_crash_loop_without_health_check_is_no_failed_health_check():
    text = "service worker is unhealthy: keeps ending: 8 restarts, last exit code 3"
    logs = ("worker starts", "FATAL: cannot parse job 17: unexpected end of JSON input")
    loop = Evidence(container_state="restarting", exit_code=3, restart_count=8, logs=logs)

    verdict = classify(text, evidence=loop)

    assert verdict.category is Category.CONTAINER_EXITED
    assert verdict.strategy is Strategy.INVESTIGATE
    assert "keeps ending" in verdict.reason


def test_crash_loop_for_memory_is_named_by_the_memory():
    reason = "keeps ending: 3 restarts, last exit code 137, killed by the kernel for using too much memory"

    assert classify(f"service web is unhealthy: {reason}").category is Category.OOM_KILLED


def test_the_kernel_is_believed_before_the_text() -> None:
    verdict = classify("bot-1 exited with code 137", evidence=Evidence(exit_code=137, oom_killed=True))

    assert verdict.category is Category.OOM_KILLED
    assert verdict.span is None


def test_exit_137_without_the_kernels_word_is_a_plain_end() -> None:
    verdict = classify("bot-1 exited with code 137", evidence=Evidence(exit_code=137, container_state="exited"))

    assert verdict.category is Category.CONTAINER_EXITED


def test_a_named_cause_outweighs_an_exit_code() -> None:
    verdict = classify("KeyError: 'BOT_TOKEN'", evidence=Evidence(exit_code=1, container_state="exited"))

    assert verdict.category is Category.MISSING_ENV_SECRET


def test_a_dependency_that_is_down_explains_a_bare_end() -> None:
    verdict = classify("bot-1 exited with code 1", evidence=Evidence(exit_code=1, dependencies_down=("redis",)))

    assert verdict.category is Category.DEPENDENCY_REFUSED
    assert verdict.strategy is Strategy.RESTART_DEPENDENCY_THEN_SERVICE
    assert "redis" in verdict.reason


def test_the_log_names_the_cause_that_the_event_does_not() -> None:
    verdict = classify(
        "bot-1 exited with code 1",
        evidence=Evidence(exit_code=1, logs=("INFO starting", "ModuleNotFoundError: No module named 'cogs'")),
    )

    assert verdict.category is Category.RUNTIME_DEPENDENCY_MISSING
    assert not verdict.strategy.automatic


HINT = "ERROR the frobnicator of the shop has a nonexistent value"


def test_words_that_only_hint_at_a_cause_count_little() -> None:
    assert classify(HINT).category is Category.SERVICE_CONFIG_INVALID
    assert classify(HINT).confidence < 0.5
    # A warning or a notice with the same words reports no failure.
    assert classify(HINT.replace("ERROR", "WARNING")).category is Category.BENIGN


def test_facts_outweigh_a_hint() -> None:
    ended = Evidence(exit_code=1, container_state="exited", dependencies_down=("redis",))

    assert classify(HINT, evidence=ended).category is Category.DEPENDENCY_REFUSED


@pytest.mark.parametrize(
    ("said", "category"),
    [
        ("Write error while saving DB to the disk(fflush): No space left on device", Category.DISK_FULL),
        ("Failed opening the temp RDB file temp-9.rdb for saving: Permission denied", Category.VOLUME_MOUNT),
        ("Background saving started by pid 9", Category.REDIS_STATE),
    ],
)
def test_the_log_of_redis_says_why_it_refuses_writes(said: str, category: Category) -> None:
    text = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
    logs = ("1:C 29 Nov 2026 12:38:58.104 # " + said, "1:M 29 Nov 2026 12:38:58.211 # Background saving error")

    assert classify(text, evidence=Evidence(container_state="running", logs=logs)).category is category


def test_a_hint_in_the_log_does_not_name_the_cause_of_an_end() -> None:
    ended = Evidence(exit_code=1, container_state="exited", logs=(HINT,))

    assert classify("bot-1 exited with code 1", evidence=ended).category is Category.CONTAINER_EXITED


def test_a_probe_cut_off_by_the_end_names_no_cause() -> None:
    ended = Evidence(
        exit_code=137,
        container_state="exited",
        probe_outputs=("OCI runtime exec failed: exec failed: error executing setns process: exit status 1: unknown",),
    )

    verdict = classify("bot-1 exited with code 137", evidence=ended)

    assert (verdict.category, verdict.strategy) == (Category.CONTAINER_EXITED, Strategy.RESTART_SERVICE)


def test_a_container_in_a_restart_loop_is_not_restarted_once_more() -> None:
    loop = Evidence(exit_code=1, container_state="restarting", restart_count=7)

    assert classify("bot-1 exited with code 1", evidence=loop).strategy is Strategy.INVESTIGATE
    assert classify("", evidence=loop).strategy is Strategy.INVESTIGATE


@pytest.mark.parametrize(
    ("evidence", "category"),
    [
        (Evidence(health="unhealthy", container_state="running"), Category.HEALTHCHECK_FAILED),
        (Evidence(exit_code=127, container_state="exited"), Category.EXEC_FORMAT_ENTRYPOINT),
        (Evidence(exit_code=2, container_state="exited"), Category.CONTAINER_EXITED),
        (Evidence(exit_code=0, container_state="exited"), Category.BENIGN),
    ],
)
def test_facts_decide_where_no_words_do(evidence: Evidence, category: Category) -> None:
    assert classify("service state changed", evidence=evidence).category is category


def test_a_probe_that_fails_in_the_start_period_is_waited_for() -> None:
    said = "Container shop-web-1 is unhealthy"

    waiting = classify(said, evidence=Evidence(container_state="running", health="starting"))
    ill = classify(said, evidence=Evidence(container_state="running", health="unhealthy"))

    assert (waiting.strategy, waiting.severity) == (Strategy.WAIT_AND_RETRY, Severity.LOW)
    assert ill.strategy is Strategy.RESTART_SERVICE


@pytest.mark.parametrize("said", ["bot-1 exited with code 127", "the bot is gone for good: crash", ""])
def test_an_exit_code_that_means_no_command_outweighs_a_bare_end(said: str) -> None:
    verdict = classify(said, evidence=Evidence(exit_code=127, container_state="exited"))

    assert (verdict.category, verdict.strategy) == (Category.EXEC_FORMAT_ENTRYPOINT, Strategy.FIX_CONFIG)


def test_what_ends_again_right_after_a_deployment_is_not_only_restarted() -> None:
    ended = Evidence(exit_code=1, container_state="exited", restart_count=1)

    assert classify("bot-1 exited with code 1", evidence=ended).strategy is Strategy.RESTART_SERVICE
    fresh = classify("bot-1 exited with code 1", evidence=replace(ended, deployed_seconds_ago=40.0))
    old = classify("bot-1 exited with code 1", evidence=replace(ended, deployed_seconds_ago=86_400.0))
    assert (fresh.strategy, old.strategy) == (Strategy.INVESTIGATE, Strategy.RESTART_SERVICE)
    assert "40 s before" in fresh.reason


def test_a_deployment_just_before_is_mentioned() -> None:
    fresh = Evidence(exit_code=1, container_state="exited", deployed_seconds_ago=40.0)

    assert "40 s" in classify("bot-1 exited with code 1", evidence=fresh).reason


@given(st.text(max_size=500))
def test_any_text_gets_a_verdict(text: str) -> None:
    verdict = classify(text)

    assert 0 < verdict.confidence <= 1
    assert verdict.reason.endswith(".")
    assert (verdict.strategy is Strategy.NONE) == (verdict.category is Category.BENIGN)


@given(st.lists(st.sampled_from([text for text, _, _ in SAYINGS]), min_size=1, max_size=4))
def test_padding_with_harmless_lines_changes_no_verdict(lines: list[str]) -> None:
    plain = classify("\n".join(lines))
    padded = classify("\n".join([harmless_lines()[0], *lines, harmless_lines()[1]]))

    assert (plain.category, plain.strategy) == (padded.category, padded.strategy)


@pytest.mark.parametrize("unit", ["a", "error ", "failed to ", "x: ", "/", "\\", '"', "1.", "network "])
def test_a_line_of_a_million_characters_is_judged(unit: str) -> None:
    assert classify(unit * (1_000_000 // len(unit))).severity in Severity


def test_the_end_of_a_probe_s_command_is_not_the_end_of_the_container() -> None:
    said = "sh ended with exit code 1: serves nobody"
    runs = Evidence(container_state="running", health="healthy", probe_outputs=(said,))

    assert classify(f"base did not start: {said}", evidence=runs).category is Category.HEALTHCHECK_FAILED


def judged_by_log(*lines: str, own_names: tuple[str, ...] = (), **more: object) -> Verdict:
    facts = replace(Evidence(exit_code=1, container_state="exited", logs=lines), **more)
    return classify("web did not start: it ended with exit code 1", evidence=facts, own_names=own_names)


@pytest.mark.parametrize(
    ("lines", "category"),
    [
        (
            (
                "2026-11-27 13:35:40.606217+00:00 [error] <0.1.0> You set a.b, but there is no setting with that name.",
                "2026-11-27 13:35:40.606217+00:00 [error] <0.153.0> Did you mean one of these?",
                "2026-11-27 13:35:40.606217+00:00 [error] <0.153.0>     vm_memory_high_watermark.relative",
                "2026-11-27 13:35:40.606217+00:00 [error] <0.153.0>     vm_memory_high_watermark_paging_ratio",
            ),
            Category.SERVICE_CONFIG_INVALID,
        ),
        (
            (
                "2026-11-27 13:44:58 0 [Note] no space left on device was seen an hour ago",
                "2026-11-27 13:44:58 0 [ERROR] mariadbd: unknown variable 'innodb-bufer-pool-size=64M'",
                "2026-11-27 13:44:58 0 [ERROR] Aborting",
            ),
            Category.SERVICE_CONFIG_INVALID,
        ),
        (
            (
                "2026-11-27T13:40:00.000000001Z Caused by: java.lang.NullPointerException: item is null",
                "2026-11-27T13:40:00.000000002Z \tat jdk.internal.DirectMethodHandleAccessor.invoke(Accessor.java:103)",
            ),
            Category.APPLICATION_ERROR,
        ),
    ],
    ids=["a list of names", "a note", "a frame"],
)
def test_what_is_no_report_of_a_failure_names_no_cause(lines: tuple[str, ...], category: Category) -> None:
    assert judged_by_log(*lines).category is category


def test_the_last_cause_of_a_chain_decides_before_what_wraps_it() -> None:
    lines = (
        'Exception in thread "main" java.lang.NullPointerException: the shop is not usable',
        "\tat Shop.main(Shop.java:16)",
        "Caused by: java.io.FileNotFoundException: /etc/shop.conf (No such file or directory)",
    )

    assert judged_by_log(*lines).category is judged_by_log(lines[-1]).category is not Category.APPLICATION_ERROR


def test_the_first_of_equal_causes_written_together_decides() -> None:
    full, denied = "write /data/x: no space left on device", "[ERROR] mariadbd: unknown variable 'a=1'"
    lines = ["2026-11-27T13:40:{:02}.000000001Z " + line for line in (full, denied)]

    together = judged_by_log(*(line.format(0) for line in lines))
    apart = judged_by_log(*(line.format(30 * number) for number, line in enumerate(lines)))

    assert (together.category, apart.category) == (Category.DISK_FULL, Category.SERVICE_CONFIG_INVALID)


@pytest.mark.parametrize(
    "lines",
    [
        ['2026-11-27 13:44:30.011 GMT [1] FATAL:  could not open file "global/pg_control": Permission denied'],
        ["1:M 27 Nov 2026 13:34:55.321 # Fatal error loading the DB: Permission denied. Exiting."],
        [
            "2026-11-27 13:44:58 0 [ERROR] InnoDB: Operating system error number 13 in a file operation.",
            "2026-11-27 13:44:58 0 [ERROR] Plugin 'InnoDB' init function returned error.",
            "2026-11-27 13:44:58 0 [ERROR] Unknown/unsupported storage engine: InnoDB",
        ],
    ],
)
def test_data_that_may_not_be_read_is_not_damaged(lines: list[str]) -> None:
    verdict = judged_by_log(*lines)

    assert (verdict.category, verdict.strategy) == (Category.VOLUME_MOUNT, Strategy.FIX_PERMISSIONS)


@pytest.mark.parametrize(
    ("address", "down", "strategy"),
    [
        ("web:6379", (), Strategy.FIX_CONFIG),
        ("localhost:6379", (), Strategy.FIX_CONFIG),
        ("cache:6379", (), Strategy.RESTART_DEPENDENCY_THEN_SERVICE),
        ("cache:6379", ("cache",), Strategy.RESTART_DEPENDENCY_THEN_SERVICE),
    ],
)
def test_an_address_of_the_service_itself_is_refused_by_no_dependency(
    address: str, down: tuple[str, ...], strategy: Strategy
) -> None:
    line = f"redis.exceptions.ConnectionError: Error 111 connecting to {address}. Connection refused."

    verdict = judged_by_log(line, own_names=("web", "shop-web-1"), dependencies_down=down)

    assert (verdict.category, verdict.strategy) == (Category.DEPENDENCY_REFUSED, strategy)


def test_a_service_that_ends_well_whenever_it_is_restarted_leaves_the_foreground() -> None:
    facts = Evidence(exit_code=0, container_state="restarting", restart_count=6)
    text = "web did not start: it keeps ending: restarted 6 times, last with exit code 0"

    verdict = as_failure(classify(text, evidence=facts), text, facts)

    assert (verdict.category, verdict.strategy) == (Category.CONTAINER_EXITED, Strategy.INVESTIGATE)
    assert "goes into the background" in verdict.reason


@pytest.mark.parametrize(
    ("line", "category"),
    [
        ('ERROR psycopg2.errors.UndefinedTable: relation "orders" does not exist', Category.SCHEMA_NOT_MIGRATED),
        ("INFO serving", Category.DEPENDENCY_REFUSED),
    ],
)
def test_the_log_says_why_a_probe_of_the_service_itself_is_refused(line: str, category: Category) -> None:
    text = "service web is unhealthy: runs, but the tcp probe of web:8080 failed: connection refused"
    facts = Evidence(container_state="running", logs=(line,))

    verdict = classify(text, evidence=facts, own_names=("web",))

    assert verdict.category is category
    assert verdict.strategy.automatic == (category is Category.DEPENDENCY_REFUSED)


@pytest.mark.parametrize("said", ["cannot exec in a stopped container", "error executing setns process: exit status 1"])
def test_a_check_that_met_a_container_as_it_ended_is_no_command_that_cannot_run(said: str) -> None:
    text = f"service web is unhealthy: its check fails: OCI runtime exec failed: exec failed: {said}: unknown"
    verdict = classify(text)
    assert verdict.category is not Category.EXEC_FORMAT_ENTRYPOINT
    assert verdict.strategy is Strategy.RESTART_SERVICE


CURL = "curl: (7) Failed to connect to 127.0.0.1 port 8080 after 0 ms: Connection refused"
PROBE = "connection to 172.18.0.3:8080 refused: nothing listens on port 8080"


@pytest.mark.parametrize(
    ("text", "check"),
    [
        (f"web did not start: its health check fails: exit code 7, {CURL}", CURL),
        (f"web was not up after 60 s: its probe fails: {PROBE}", PROBE),
        (f"web was not up after 60 s: its probe fails: {PROBE}", ""),
    ],
)
def test_what_a_check_of_the_service_itself_finds_refused_is_no_dependency(text: str, check: str) -> None:
    seen = Evidence(container_state="running", health="unhealthy", probe_outputs=(check,) if check else ())
    verdict = classify(text, evidence=seen, own_names={"web"})
    assert (verdict.category, verdict.pattern_name) == (Category.HEALTHCHECK_FAILED, None)


def test_a_check_that_reports_what_another_host_refused_names_a_dependency() -> None:
    said = '{"db": "dial tcp db:5432: connect: connection refused"}'
    seen = Evidence(container_state="running", health="unhealthy", probe_outputs=(said,))
    text = f"web is unhealthy: its health check fails: exit code 1, {said}"
    verdict = classify(text, evidence=seen, own_names={"web"})
    assert verdict.category is Category.DEPENDENCY_REFUSED


def test_the_program_s_own_words_decide_where_its_check_is_only_refused() -> None:
    log = ("Error: connect ECONNREFUSED 10.0.0.7:5432",)
    seen = Evidence(container_state="running", health="unhealthy", probe_outputs=(CURL,), logs=log)
    verdict = classify(f"web: its health check fails: {CURL}", evidence=seen, own_names={"web"})
    assert verdict.category is Category.DEPENDENCY_REFUSED
