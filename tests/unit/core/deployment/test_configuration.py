"""What a program says of its own configuration decides whether it is reloaded, restarted or replaced."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.programs import shipped_programs
from core.deployment.configuration import ReadAnew, check_command, refusal, to_check
from models.adoption import ConfigurationCheck
from models.compose import Plan, PlannedAction, PlannedService
from models.containers import ContainerState

CHECKS = {one.id: one.configuration for one in shipped_programs() if one.configuration is not None}


@pytest.mark.parametrize(
    ("program", "started_with", "check"),
    [
        ("nginx", "/docker-entrypoint.sh nginx -g daemon off;", "nginx -t"),
        ("nginx", "nginx -c /conf/nginx.conf -g daemon off;", "nginx -t -c /conf/nginx.conf"),
        ("haproxy", "docker-entrypoint.sh haproxy -f /etc/haproxy.cfg", "haproxy -c -f /etc/haproxy.cfg"),
        ("haproxy", "haproxy -f /etc/one.cfg -f /etc/two.cfg", ""),
        ("haproxy", "haproxy", ""),
        (
            "caddy",
            "caddy run --config /etc/caddy/Caddyfile --adapter caddyfile",
            "caddy validate --config /etc/caddy/Caddyfile",
        ),
        ("caddy", "caddy run --adapter caddyfile --config /etc/site.conf", ""),
        ("prometheus", "/bin/prometheus --config.file=/etc/p.yml --web.x", "promtool check config /etc/p.yml"),
        (
            "redis",
            "docker-entrypoint.sh redis-server /conf/redis.conf --appendonly yes",
            "redis-server /conf/redis.conf --port ends-here",
        ),
        ("redis", "redis-server --appendonly yes", ""),
        ("postgresql", "docker-entrypoint.sh postgres", ""),
        (
            "postgresql",
            "docker-entrypoint.sh postgres -c config_file=/etc/pg.conf",
            "postgres -C max_connections -c config_file=/etc/pg.conf",
        ),
    ],
)
def test_a_check_reads_the_file_that_the_program_was_started_with(program: str, started_with: str, check: str) -> None:
    assert " ".join(check_command(CHECKS[program], started_with.split())) == check


NGINX = 'nginx: [emerg] unknown directive "lsten" in /etc/nginx/nginx.conf:7\nnginx: configuration file test failed\n'


@pytest.mark.parametrize(
    ("program", "exit_code", "printed", "why"),
    [
        ("nginx", 1, NGINX, 'nginx: [emerg] unknown directive "lsten" in /etc/nginx/nginx.conf:7'),
        (
            "nginx",
            1,
            '2026/11/29 07:54:57 [emerg] 7#7: unknown directive "x" in /n.conf:1\nfailed',
            "[emerg] 7#7: unknown",
        ),
        ("nginx", 0, "nginx: configuration file test is successful", ""),
        ("nginx", 1, 'nginx: [emerg] host not found in upstream "web" in /etc/nginx/nginx.conf:9', ""),
        ("nginx", 1, "nginx: [emerg] bind() to 172.31.9.9:80 failed (99: Cannot assign requested address)", ""),
        ("nginx", 1, 'nginx: [emerg] open() "/run/nginx.pid" failed (30: Read-only file system)', ""),
        ("nginx", 1, 'nginx: [emerg] cannot load certificate key "/k": Permission denied', ""),
        ("nginx", 127, "exec: nginx: executable file not found in $PATH", ""),
        ("nginx", 1, "", ""),
        (
            "postgresql",
            2,
            (
                "postgres does not know where to find the database system data.\n"
                'This can be specified as "data_directory" in "/conf/p.conf", or by the PGDATA environment variable.'
            ),
            "",
        ),
        ("postgresql", 2, 'postgres: could not access directory "/var/lib/postgresql/data": No such file', ""),
        (
            "postgresql",
            1,
            (
                '2026 GMT [10] LOG:  unrecognized configuration parameter "x" in file "/p.conf" line 1\n'
                '2026 GMT [10] FATAL:  configuration file "/p.conf" contains errors'
            ),
            'unrecognized configuration parameter "x"',
        ),
        (
            "redis",
            1,
            (
                "*** FATAL CONFIG FILE ERROR (Redis 8.0.2) ***\nReading the configuration file, at line 1\n"
                ">>> 'maxmemory 12xx'\nargument must be a memory value\n"
            ),
            ">>> 'maxmemory 12xx': argument must be a memory value",
        ),
        ("redis", 1, ">>> 'port \"ends-here\"'\nargument couldn't be parsed into an integer", ""),
        ("mariadb", 7, "2026 0 [ERROR] mariadbd: unknown variable 'a=1'\n2026 0 [ERROR] Aborting", "[ERROR] mariadbd:"),
        (
            "rabbitmq",
            1,
            (
                "2026 [error] <0.153.0> Error preparing configuration in phase transform_datatypes:\n"
                "2026 [error] <0.153.0>   - Conf file attempted to set unknown variable: nosuch.setting\n"
            ),
            "Conf file attempted to set unknown variable: nosuch.setting",
        ),
        (
            "rabbitmq",
            1,
            "exited: {failed_to_create_feature_flags_file_directory,{rabbit,start}}",
            "",
        ),
        (
            "apache",
            1,
            "AH00526: Syntax error on line 2 of /etc/a.conf:\nInvalid command 'Lisen', perhaps misspelled",
            "AH00526: Syntax error on line 2 of /etc/a.conf: Invalid command 'Lisen'",
        ),
        ("apache", 1, "apache2: Syntax error on line 80 of /etc/apache2.conf: DefaultRuntimeDir must be valid", ""),
        ("apache", 1, "AH00526: Syntax error on line 9 of /a.conf:\nSSLCertificateFile: file '/c' does not exist", ""),
        (
            "php_fpm",
            78,
            "[29-Nov] ERROR: [/w.conf:3] unable to parse",
            "ERROR: [/w.conf:3] unable",
        ),
        ("haproxy", 1, "[NOTICE] (1) : version 3\n[ALERT] (1) : parsing [/h.cfg:3] : no", "[ALERT] (1) : parsing"),
        ("haproxy", 1, "[ALERT] (1) : config : [/h.cfg:9] : could not resolve address 'web'.", ""),
        ("caddy", 1, "{}\nError: adapting config using caddyfile: unrecognized directive: x", "Error: adapting"),
        ("prometheus", 1, "Checking /p.yml\n  FAILED: parsing YAML file /p.yml: yaml: line 3", "FAILED: parsing YAML"),
    ],
)
def test_only_what_is_wrong_with_the_file_itself_is_a_refusal(
    program: str, exit_code: int, printed: str, why: str
) -> None:
    said = refusal(CHECKS[program], exit_code, printed)

    assert said.startswith(why)
    assert bool(said) == bool(why)


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (
            "nginx",
            'nginx: [emerg] cannot load certificate "FILE": BIO_new_file() failed (SSL: No such file: fopen(FILE))',
        ),
        ("nginx", 'nginx: [emerg] open() "FILE" failed (2: No such file or directory) in /conf/nginx.conf:3'),
        (
            "haproxy",
            "[ALERT] (1) : parsing [/conf/h.cfg:9] : unable to stat from file 'FILE' : No such file or directory.",
        ),
        ("haproxy", "[ALERT] (1) : Cannot open configuration file/directory FILE : No such file or directory"),
        ("caddy", "Error: reading config from file: open FILE: no such file or directory"),
    ],
)
def test_a_copy_may_lack_what_a_container_makes_as_it_starts(program: str, printed: str) -> None:
    made, mounted = (printed.replace("FILE", file) for file in ("/tmp/made.pem", "/conf/tls/made.pem"))

    assert refusal(CHECKS[program], 1, made, ["/conf", "/srv"]) == ""
    assert refusal(CHECKS[program], 1, mounted, ["/conf", "/srv"])
    assert refusal(CHECKS[program], 1, made)


def test_a_name_that_is_not_found_is_a_refusal_only_in_the_networks_of_the_program() -> None:
    printed = 'nginx: [emerg] host not found in upstream "wbe" in /conf/nginx.conf:9'

    assert refusal(CHECKS["nginx"], 1, printed, ["/conf"]) == ""
    assert refusal(CHECKS["nginx"], 1, printed, ["/conf"], in_its_networks=True) == printed


def test_a_program_is_asked_where_it_will_read_its_configuration_anew() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    actions = {
        "kept": PlannedAction.KEEP,
        "front": PlannedAction.KEEP,
        "restarted": PlannedAction.RESTART,
        "new_image": PlannedAction.RECREATE,
        "declared_anew": PlannedAction.RECREATE,
        "stopped": PlannedAction.RESTART,
    }
    lines = tuple(PlannedService(service=name, action=one, because="", wave=0) for name, one in actions.items())
    seen = [
        ContainerState(
            container_id=name,
            name=name,
            service=name,
            project="shop",
            number=1,
            image="i",
            image_id="i",
            state="exited" if name == "stopped" else "running",
            seen_at=now,
            config_hash="before",
        )
        for name in actions
    ]
    hashes = dict.fromkeys(actions, "before") | {"declared_anew": "after"}

    found = to_check(Plan(project="shop", services=lines, waves=()), seen, hashes, {"front"})

    assert found == {
        "front": ReadAnew.RELOADED,
        "restarted": ReadAnew.RESTARTED,
        "new_image": ReadAnew.REPLACED,
    }


def test_each_check_says_where_it_is_documented() -> None:
    assert CHECKS.keys() >= {"nginx", "nginx_unprivileged", "haproxy", "caddy", "prometheus", "postgresql"}
    assert all(isinstance(one, ConfigurationCheck) and one.source.startswith("https://") for one in CHECKS.values())
