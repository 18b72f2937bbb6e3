"""Secrets of every shape, and an application that has each of them somewhere and says some of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.e2e.flows.conftest import IMAGE, Place

# Values that are known, since the environment or the Compose files declare them.
DECLARED = {
    "secret of the environment, by variable": 'v4r/plant"ed+9f3 a&b\\d9',
    "secret of the environment, by file": "f1le-planted/7c21+x",
    "env_file, by name": "env-planted-77aa==",
    "env_file, by chance alone": "k3Jx9QmZ7vT2bN5wR8cL1dF4",
    "Compose secret, by file": "compose-file-51c0-planted",
    "Compose secret, by variable": "compose-variable-62d1-planted",
    "Compose secret of several lines": "line-one-of-planted-8841\nline-two-of-planted-8842",
    "Compose config, inline": "inline-config-73e2-planted",
    "Compose config, a password in it": "config-pw-84f3-planted",
    "Compose config, by file": "config-file-95a4-planted",
    "environment PASS": "pass-planted-1a1",
    "environment PW": "pw-planted-2b2",
    "environment ROOT_PWD": "pwd-planted-3c3",
    "environment APP_KEY": "app-key-planted-4d4",
    "environment WRAPPING_KEY": "wrapping-planted-5e5",
    "environment APP_SALT": "salt-planted-6f6",
    "environment APP_PEPPER": "pepper-planted-7a7",
    "environment SESSION_COOKIE": "cookie-planted-8b8",
    "environment DSN, in its address": "dsn-planted-9c9",
    "environment WEBHOOK_URL": "https://hooks.example/in/webhook-planted-0d0",
    "environment, by chance alone": "hR5tY8uI2oP4aS7dF9gH1jK3",
    "environment, quotes and spaces": 'it\'s "quoted" 55 & spaced',
    "environment, unicode": "пароль-ключ-42-größe",
    "command, --password=": "cli-pw-planted-1e1",
    "command, --api-token in two words": "cli-token-planted-2f2",
    "command, in an address": "cli-url-planted-3a3",
    "command, by chance alone": "Zx8Cv7Bn6Mq5Wp4Er3Ty2Ui1",
    "label, by name": "label-planted-4b4",
    "health check, curl -u": "health-planted-5c5",
    "program that does not exist": "exec-planted-6d6",
}


def _long(begin: str, count: int = 36, of: str = "aB3dE6gH9") -> str:
    # Put together here, so that no scanner takes them for real ones.
    return begin + (of * 20)[:count]


PEM_LINE = "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCplanted"
# Values that nothing declares: only their looks, or the words around them, tell.
SHAPED = {
    "private key": f"-----BEGIN PRIVATE KEY-----\n{PEM_LINE}\n-----END PRIVATE KEY-----",
    "JWT": f"{_long('ey' + 'J', 20)}.{_long('eyJ', 24)}.{_long('', 30)}",
    "AWS access key": "AK" + "IAQ7PLANTED8EXAMPL",
    "AWS secret key": "AWS_SECRET_ACCESS_KEY=" + _long("wJ/", 37),
    "GitHub token": _long("gh" + "p_"),
    "GitLab token": _long("glp" + "at-", 20),
    "Slack token": _long("xox" + "b-12-", 30),
    "Slack webhook": "https://hooks.slack.com/services/T0PLANT/B0PLANT/" + _long("", 24),
    "Discord token": f"M{'a1B' * 8}.{'b' * 6}.{_long('', 30)}",
    "Discord webhook": "https://discord.com/api/webhooks/123456789012345678/" + _long("", 60),
    "Stripe key": _long("sk_" + "live_", 24),
    "npm token": _long("npm" + "_"),
    "PyPI token": _long("pypi" + "-AgEI"),
    "Telegram token": f"123456789:AA{_long('', 33)}",
    "SendGrid key": f"SG.{_long('', 22)}.{_long('', 43)}",
    "Azure connection string": f"AccountName=shop;AccountKey={_long('', 86)}==;EndpointSuffix=x",
    "Azure shared access signature": "https://shop.blob.example/x?sv=2024&sig=" + _long("", 43) + "%3D",
    "GCP key file": json.dumps(
        {"private_key": f"-----BEGIN PRIVATE KEY-----\n{PEM_LINE}gcp\n-----END PRIVATE KEY-----\n"}
    ),
    "kubeconfig": "client-key-data: " + base64.b64encode(b"-----BEGIN RSA PRIVATE KEY-----\nplanted-kube").decode(),
    "basic authentication": "Authorization: Basic " + base64.b64encode(b"planted-user:planted-pw").decode(),
    "cookie header": "Cookie: theme=dark; session=cookie-header-planted-1",
    "password hash": "$2y$" + "10$" + _long("", 53),
    "password, spoken of": "the password is spoken-planted-42",
    "redis-cli -a": "redis-cli -h cache -a redis-planted-43 ping",
}
# What of a shaped text must not be left, where that is not all of it.
SECRET_PART = {
    "private key": PEM_LINE,
    "AWS secret key": _long("wJ/", 37),
    "Slack webhook": _long("", 24),
    "Discord webhook": _long("", 60),
    "Azure connection string": _long("", 86),
    "Azure shared access signature": _long("", 43) + "%3D",
    "GCP key file": f"{PEM_LINE}gcp",
    "kubeconfig": base64.b64encode(b"-----BEGIN RSA PRIVATE KEY-----\nplanted-kube").decode(),
    "basic authentication": base64.b64encode(b"planted-user:planted-pw").decode(),
    "cookie header": "cookie-header-planted-1",
    "password, spoken of": "spoken-planted-42",
    "redis-cli -a": "redis-planted-43",
}
TYPED = {
    "resolve --note": "typed-resolve-11",
    "pause --reason": "typed-pause-22",
    "acknowledge --note": "typed-acknowledge-33",
    "recover TEXT": "typed-recover-44",
    "image name": _long("gh" + "p_", 36, "cD4fG7"),
}

D = DECLARED
PRINTED_WHEN_ILL = "touch /tmp/serves; exec sleep 600"


def plant(place: Place, *, broken: bool) -> dict[str, str]:
    """Write the application into the place; gives back the variables of the process it needs."""
    folder = place.folder
    (folder / "key").write_text(D["secret of the environment, by file"] + "\n")
    (folder / "talker.env").write_text(
        f"DB_PASSWORD={D['env_file, by name']}\nSERVICE_SEED={D['env_file, by chance alone']}\n"
    )
    (folder / "one.secret").write_text(D["Compose secret, by file"])
    (folder / "lines.secret").write_text(D["Compose secret of several lines"])
    (folder / "app.json").write_text(json.dumps({"client_secret": D["Compose config, by file"], "level": "debug"}))
    (folder / "said.txt").write_text("\n".join(_said()) + "\n")
    services = {"talker": _talker()} | ({"broken": _broken()} if broken else {})
    document = {
        "services": services,
        "secrets": {
            "one": {"file": "./one.secret"},
            "lines": {"file": "./lines.secret"},
            "sealed": {"environment": "SHOP_SEAL"},
        },
        "configs": {
            "inline": {"content": D["Compose config, inline"]},
            "settings": {"content": f"level = debug\npassword = {D['Compose config, a password in it']}\n"},
            "app": {"file": "./app.json"},
        },
    }
    place.declare("talker: {}", secrets="[{name: APP_PLANTED_TOKEN}, {name: PLANTED_KEY, file: key}]",
                  services=PROBE, recovery="{verify_timeout_seconds: 3}", start_timeout_seconds=30)  # fmt: skip
    Path(folder, "compose.yaml").write_text(json.dumps(document, ensure_ascii=False))
    return {
        "APP_PLANTED_TOKEN": D["secret of the environment, by variable"],
        "SHOP_SEAL": D["Compose secret, by variable"],
    }


PROBE = """{talker: {probe: {kind: command, command: [sh, -c, 'cat /said.txt | head -n 60; test -e /tmp/serves']}}}"""


def _said() -> list[str]:
    """What the application prints: each secret in a line of a log, and known ones in other spellings."""
    # Nothing declares that program before the service that wants it is there.
    known = [value for name, value in D.items() if name != "program that does not exist"]
    lines = [f"FATAL: the application shows {value}" for value in (*known, *SHAPED.values())]
    for value in (D["env_file, by name"], D["secret of the environment, by file"], D["Compose secret, by variable"]):
        data = value.encode()
        lines += [base64.b64encode(data).decode(), base64.b64encode(b"user:" + data).decode(), data.hex()]
        half = len(value) // 2
        lines += [json.dumps(json.dumps(value)), f"broken {value[:half]}", value[half:]]
    return lines


def _talker() -> dict[str, object]:
    return {
        "image": IMAGE,
        "init": True,
        "env_file": ["talker.env"],
        "environment": {
            "TOKEN": "${APP_PLANTED_TOKEN}",
            "PASS": D["environment PASS"],
            "PW": D["environment PW"],
            "ROOT_PWD": D["environment ROOT_PWD"],
            "APP_KEY": D["environment APP_KEY"],
            "WRAPPING_KEY": D["environment WRAPPING_KEY"],
            "APP_SALT": D["environment APP_SALT"],
            "APP_PEPPER": D["environment APP_PEPPER"],
            "SESSION_COOKIE": D["environment SESSION_COOKIE"],
            "DSN": f"postgresql://shop:{D['environment DSN, in its address']}@db:5432/shop",
            "WEBHOOK_URL": D["environment WEBHOOK_URL"],
            "SERVICE_REALM": D["environment, by chance alone"],
            "ADMIN_PASSWORD": D["environment, quotes and spaces"],
            "OTHER_PASSWORD": D["environment, unicode"],
        },
        "volumes": ["./key:/run/key:ro", "./said.txt:/said.txt:ro"],
        "secrets": ["one", "lines"],
        "configs": ["app"],
        "labels": {"shop.secret": D["label, by name"], "shop.token": SHAPED["GitHub token"]},
        "command": [
            "sh", "-c", "cat /said.txt; touch /tmp/well /tmp/serves; exec sleep 600", "program",
            f"--password={D['command, --password=']}", "--api-token", D["command, --api-token in two words"],
            f"--cache=redis://user:{D['command, in an address']}@cache:6379/0", D["command, by chance alone"],
        ],
        "healthcheck": {
            "test": [
                "CMD-SHELL",
                f"head -c 3000 /said.txt; : curl -u admin:{D['health check, curl -u']} http://x; test -e /tmp/well",
            ],
            "interval": "1s", "timeout": "30s", "retries": 1, "start_period": "10s", "start_interval": "200ms",
        },
    }  # fmt: skip


def _broken() -> dict[str, object]:
    return {
        "image": IMAGE,
        "command": [f"/bin/{D['program that does not exist']}", f"--password={D['program that does not exist']}"],
        "environment": {"EXEC_PASSWORD": D["program that does not exist"]},
    }
