"""Read from an entrypoint and command which programs run, where they listen, and whether they end."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from models.adoption import CommandReading

_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})
_KEYWORDS = re.compile(r"if|then|elif|else|fi|do|done|while|until|for|case|esac|!|\{|\}|exec|time|export|set")
_ENDLESS = re.compile(r"(?:while (?:true|:|1|sleep.*|\[ (?:1|true) \])|until (?:false|!))(?: .*)?")
_GO_ON = frozenset({"sleep", "tail", "wait", "watch", "crond", "cron", "supercronic"})
_ENDS_COMMAND = re.compile(r"[;&|()]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_PROGRAM = re.compile(r"[A-Za-z_][\w.+-]*")
_VERSION = re.compile(r"(python|php|ruby|node)[\d.]+")

_RUNS_THE_REST = re.compile(
    r"env|nohup|nice|ionice|timeout|sudo|doas|su-exec|gosu|s6-setuidgid|chpst|setpriv|tini|dumb-init|catatonit|"
    r"dockerize|uvx|uv|poetry|pipenv|pdm|hatch|bundle|busybox|wait[\w.-]*|[\w.-]*entrypoint[\w.-]*"
)
"""Programs that start the program named after them, and scripts that are written to: an entrypoint."""
_TAKES_USER = frozenset({"su-exec", "gosu", "s6-setuidgid", "chpst", "timeout"})
_TAKES_VERB = {"uv": "run", "poetry": "run", "pipenv": "run", "pdm": "run", "hatch": "run", "bundle": "exec"}
_INTERPRETERS = re.compile(r"python3?|node|php|ruby|java|deno|bun|npm|npx|yarn|pnpm")
_RUNNERS = frozenset({"npm", "npx", "yarn", "pnpm"})
_RUN_SCRIPTS = re.compile(r"(?:[\w.-]*manage\.py|artisan|rails|rake|flask|console)")

_WORKS = re.compile(
    r"(?:^|[:/_.-])(?:workers?|schedulers?|schedule|beat|consumers?|consume|cron|crond|cronjob|queues?|jobs?|sidekiq|resque|"
    r"dramatiq|horizon|huey|huey_consumer|rq|rqworker|qcluster|arq|supercronic|ofelia|triggerer|dag-processor|delayed_job)(?:$|[:/_.-])"
)
_SERVES_WORKERS = frozenset({"flower"})
_ENDS = re.compile(
    r"(?:^|[:/_.-])(?:migrate|migrations?|migration-job|seed|upgradedb|db-init|collectstatic|createsuperuser|loaddata|"
    r"makemigrations|createcachetable|compilemessages)(?:$|[:/_.-])|^db:(?:migrate|prepare|setup|seed|create)"
)
_NAMES_JOB = re.compile(
    r"(?:^|[_.-])(?:init|initiali[sz]\w*|set-?up|migrat\w*|seed\w*|bootstrap\w*|provision\w*|create\w*|prepare|install\w*|load\w*data|"
    r"topics?|buckets?|import|once|job)(?:$|[_.-])|migrate$"
)
_ONE_SHOT = re.compile(
    r"alembic|migrate|flyway|liquibase|dbmate|goose|atlas|psql|pg_dump|pg_dumpall|pg_restore|pg_basebackup|createdb|mysql|"
    r"mysqldump|mariadb|mariadb-dump|mongodump|mongorestore|mongosh|mongo|redis-cli|valkey-cli|mc|aws|restic|rsync|tar|"
    r"gzip|cp|mv|rm|mkdir|chown|chmod|touch|ln|install|echo|printf|true|false|test|curl|wget|tee|openssl|certbot|git|"
    r"kafka-topics(?:\.sh)?|rabbitmqadmin|htpasswd|envsubst|wp"
)
"""Programs that do one thing and end, unless a loop calls them."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
_EVERYWHERE = frozenset({"", "0.0.0.0", "[::]", "::", "*", "+"})  # noqa: S104 - recognised, not bound
_ADDRESS = re.compile(r"(?:[A-Za-z_]+://)?(?:(\[[0-9a-fA-F:]*\]|\*|\+|[\w.-]*):)?(\d{2,5})(?:/[a-z]*)?", re.ASCII)
_NAMES_HOST = frozenset({"--host", "--bind", "--listen", "--address", "--bind_ip", "--bind-address", "--hostname"})
_NAMES_SERVER = frozenset({"--host", "--hostname", "-h", "-H", "--server"})
_IP = re.compile(r"[\d.]+")
_TAKES_PLAIN_ADDRESS = frozenset({"runserver", "http.server"})


def read_command(argv: Sequence[str]) -> CommandReading:
    """Read an entrypoint with its command; one that begins with an option only adds to what an image starts."""
    commands = [] if not argv or argv[0].startswith("-") else [*_simple_commands(argv)]
    started = [program for words in commands for program in _started_programs(words)]
    while commands and commands[-1][0] == "exit":
        # What stands before it decides whether the service gets there.
        del commands[-1]
    words = [word for command in commands for word in command] or [*argv]
    listens, loopback = _listens(words)
    last = [*_started_programs(commands[-1])] if commands else []
    loops = any(_ENDLESS.fullmatch(" ".join(command)) for command in _with_keywords(argv)) or bool({*last[:1]} & _GO_ON)
    return CommandReading(
        programs=tuple(dict.fromkeys(started)),
        listens=listens,
        loopback=loopback,
        options=frozenset(word.partition("=")[0] for word in words if word.startswith("-")),
        works=bool(commands) and not _SERVES_WORKERS & {*commands[-1]} and _says(commands[-1], _WORKS),
        ends=bool(commands) and not loops and _ends(commands[-1], last),
        files=tuple(word for word in words if not word.startswith("-") and word.endswith(".conf")),
    )


def says_worker(text: str) -> bool:
    """Whether a name or value, such as that of a variable for the role, is one of a worker or scheduler."""
    return _WORKS.search(text.lower()) is not None


def says_job(name: str) -> bool:
    """Whether a service's name is one of work that is done once, such as a set-up."""
    return _NAMES_JOB.search(name.lower()) is not None


def listen_address(value: str) -> tuple[str, int] | None:
    """The host, which may be empty, and the port of an address to listen on; None where it is none."""
    # Kafka lists the listener of its controllers among the others.
    listed = value.strip("\"'").split(",")
    match = _ADDRESS.fullmatch(next((address for address in listed if not address.startswith("CONTROLLER")), ""))
    if match is None or not 0 < int(match[2]) < 65536:
        return None
    return match[1] or "", int(match[2])


def _with_keywords(argv: Sequence[str]) -> Iterator[list[str]]:
    """Each simple command of a line, with the shell's words before it."""
    words = [*argv]
    if words and PurePosixPath(words[0]).name in _SHELLS:
        line = next((word for option, word in itertools.pairwise(words) if re.fullmatch(r"-[a-z]*c", option)), None)
        if line is not None:
            yield from _split(line)
            return
        words = [word for word in words[1:] if not word.startswith("-")]
    elif len(words) == 1 and any(separator in words[0] for separator in " ;&|"):
        yield from _split(words[0])
        return
    yield words


def _split(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    try:
        tokens = [*lexer]
    except ValueError:
        tokens = line.split()
    command: list[str] = []
    for token in tokens:
        if _ENDS_COMMAND.fullmatch(token):
            yield command
            command = []
        else:
            command.append(token)
    yield command


def _simple_commands(argv: Sequence[str]) -> Iterator[list[str]]:
    """The commands of an entrypoint and command, without what only starts them."""
    for words in _with_keywords(argv):
        command = [*words]
        while command:
            name = PurePosixPath(command[0]).name
            if _KEYWORDS.fullmatch(command[0]) or _ASSIGNMENT.fullmatch(command[0]):
                del command[0]
            elif name in _SHELLS and len(command) > 1:
                yield from _simple_commands(command)
                command = []
            elif _RUNS_THE_REST.fullmatch(name) and (inner := _inner(name, command[1:])):
                command = inner
            else:
                yield command
                command = []


def _inner(name: str, words: Sequence[str]) -> list[str]:
    """What a program that starts another one is given to start; empty where that is nothing."""
    if "--" in words:
        return [*words[words.index("--") + 1 :]]
    if name.startswith("wait") or "entrypoint" in name:
        # Its own arguments and those of a program look alike; an option is its own.
        return [] if words and (words[0].startswith("-") or ":" in words[0] or name.startswith("wait")) else [*words]
    command = [*words]
    if (verb := _TAKES_VERB.get(name)) is not None:
        if verb not in command:
            return []
        command = command[command.index(verb) + 1 :]
    while command and (command[0].startswith("-") or _ASSIGNMENT.fullmatch(command[0])):
        takes_value = name in ("nice", "dockerize", "sudo", "ionice") and "=" not in command[0] and command[0] != "-n1"
        del command[: 2 if takes_value and len(command[0]) > 1 else 1]
    return command[1:] if name in _TAKES_USER else command


def _started_programs(words: Sequence[str]) -> Iterator[str]:
    """The executable of a simple command, and the module or script that an interpreter runs as a program."""
    if not words:
        return
    name = PurePosixPath(words[0]).name
    if not _PROGRAM.fullmatch(name):
        return
    yield name
    if short := _VERSION.fullmatch(name):
        yield short[1]
    arguments = [*words[1:]]
    if _INTERPRETERS.fullmatch(name) or _VERSION.fullmatch(name) or _RUN_SCRIPTS.fullmatch(name):
        while arguments and arguments[0].startswith("-") and arguments[0] != "-m":
            del arguments[0]
        if arguments[:1] == ["-m"]:
            yield from _started_programs(arguments[1:])
        elif arguments and (_RUN_SCRIPTS.fullmatch(PurePosixPath(arguments[0]).name) or name in _RUNNERS):
            yield from (argument for argument in arguments[:3] if _PROGRAM.fullmatch(argument))
        elif _RUN_SCRIPTS.fullmatch(name):
            yield from (argument for argument in arguments[:1] if _PROGRAM.fullmatch(argument))


def _says(words: Sequence[str], pattern: re.Pattern[str]) -> bool:
    """Whether the program of a command, or one of its first arguments, is named so; values of options do not count."""
    before = ""
    for place, word in enumerate(words[:8]):
        is_value = before.startswith("-") and "=" not in before and place > 1
        if not word.startswith("-") and "=" not in word and "://" not in word:
            base = PurePosixPath(word).name.lower().removesuffix(".sh").removesuffix(".py").removesuffix(".js")
            if not is_value and pattern.search(base):
                return True
        before = word
    return False


def _ends(words: Sequence[str], started: Sequence[str]) -> bool:
    if started and _ONE_SHOT.fullmatch(started[0]):
        return True
    return _says(words, _ENDS) or ("db" in words[:4] and bool({"upgrade", "init", "migrate"} & {*words[:5]}))


def _listens(words: Sequence[str]) -> tuple[tuple[tuple[str, int], ...], bool]:
    addresses: list[tuple[str, str, int]] = []
    local = remote = False
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else ""
        name, equals, value = word.partition("=")
        if word in _TAKES_PLAIN_ADDRESS:
            value = after
        elif not word.startswith("-"):
            continue
        elif not equals:
            value = "" if after.startswith("-") else after
            if "=" in value:
                # postgres -c port=5433
                key, _, value = value.partition("=")
                name = f"{name} {key}"
        if name in _NAMES_HOST and value in _LOOPBACK:
            local = True
        elif name in _NAMES_SERVER and value and value not in _EVERYWHERE and not _IP.fullmatch(value):
            remote = True
        elif (address := listen_address(value)) is not None:
            host, port = address
            if host in _LOOPBACK:
                local = True
            elif host in _EVERYWHERE or _IP.fullmatch(host):
                addresses.append((name, host, port))
    # With the host of a server to ask, a port is that server's.
    listeners = () if remote else tuple((name, port) for name, host, port in addresses if host or not local)
    return listeners, local and not listeners
