"""The door to Compose: it alone reads, merges and hashes Compose files and makes containers of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from adapters.compose.declared_secrets import concealed_values
from adapters.config.secrets import variables_of
from adapters.host.private_files import check_regular, read_regular
from core.common.safe_text import printable
from core.errors.redact import Redactor
from models.compose import (
    Application,
    ComposeVariable,
    DependencyCondition,
    DependsOn,
    HealthcheckDeclaration,
    InjectedFile,
    Mount,
    MountedFile,
    MountKind,
    NetworkDeclaration,
    NetworkPlace,
    PublishedPort,
    ServiceDeclaration,
    VolumeDeclaration,
)
from models.environments import Environment
from models.failures import ComposeError, EnginePermissionError, EngineUnreachableError, RoasError

_QUICK = timedelta(seconds=30)
_CREATE = timedelta(minutes=15)


class ComposeCli:
    """Compose for one environment, run with the given variables.

    With a `document`, such as `template` gave, it stands for the environment's Compose files, which are
    then not read. Every call blocks until Compose has ended or its deadline has passed; threads may share
    one object.
    """

    def __init__(
        self, environment: Environment, variables: Mapping[str, str], document: Mapping[str, Any] | None = None
    ) -> None:
        self._environment = environment
        self._variables = dict(variables)
        self._template = None if document is None else dict(document)

    def version(self) -> str:
        """The version of Compose, such as 2.26.1.

        Raises:
            ComposeError: Docker's command or its Compose plugin is not installed.
        """
        return self._run(["version", "--short"], _QUICK, on_project=False)[0].strip().removeprefix("v")

    def render(self) -> Application:
        """What the Compose files declare, as Compose understands them; nothing is changed.

        Raises:
            ComposeError: The files are missing, do not parse or merge, or a required variable is not set.
        """
        document, warnings, rendered = self._document()
        # Hashed as rendered: what comes from env_file then counts, as it does in the containers' labels.
        hashing = self._run(["config", "--hash", "*"], _QUICK, rendered=_self_contained(rendered))
        lines = hashing[0].splitlines()
        hashes = dict(line.split(maxsplit=1) for line in lines if line.strip())
        return _application(document, hashes, warnings)

    def template(self) -> dict[str, Any]:
        """The files merged into one document that still names its variables and env_files, so that no value
        of either is in it; with the same variables it renders to the same application.

        Raises:
            ComposeError: As for `render`, or the document would not render to the same application.
        """
        if self._template is not None:
            return self._template
        filled, _ = self._config()
        template = self._unfilled()
        for name, body in (filled.get("services") or {}).items():
            _tell_paths_from_volumes(template["services"][name], body)
            _name_arguments(template["services"][name], body)
        again, _ = ComposeCli(self._environment, self._variables, template)._config()
        if again != filled:
            raise ComposeError(
                f"{self._files()} cannot be kept with variables unfilled: {_first_difference(filled, again)} "
                "would come out differently.",
                advice="Write the paths there without variables; an included project's own .env is not kept.",
            )
        return template

    def variables(self) -> tuple[ComposeVariable, ...]:
        """The variables that the Compose files use.

        Raises:
            ComposeError: The files cannot be read.
        """
        return _variables(self._run(["config", "--variables"], _QUICK)[0])

    def injections(self) -> dict[str, tuple[InjectedFile, ...]]:
        """The files that go into each service's containers just before they start, by service.

        Compose copies inline configs and secrets from variables at its own start command, so whoever
        starts a container in its place copies them first.

        Raises:
            ComposeError: As for `render`, or the variable a secret comes from is not set.
        """
        document, _, _ = self._document()
        known = variables_of(self._environment, self._variables)
        return {
            name: files
            for name, service in document["services"].items()
            if (files := tuple(_injected(document, service, known)))
        }

    def places(self, service: str) -> tuple[NetworkPlace, ...]:
        """How a service is to be found in each network that the files put it into.

        Raises:
            ComposeError: As for `render`.
        """
        document, _, _ = self._document()
        names = {key: str(body.get("name", key)) for key, body in _section(document, "networks")}
        return tuple(
            NetworkPlace(
                name=names[key],
                # Compose gives the service's name to every container of it.
                aliases=(service, *(reported.get("aliases") or ())),
                ipv4_address=reported.get("ipv4_address"),
                ipv6_address=reported.get("ipv6_address"),
            )
            for key, reported in ((key, body or {}) for key, body in _joined(document, service).items())
            if key in names
        )

    def create(
        self,
        services: Sequence[str] | None = None,
        *,
        force_recreate: Sequence[str] = (),
        deadline: timedelta = _CREATE,
    ) -> None:
        """Create what is declared and not there, and replace what has changed; nothing is started.

        Images are pulled or built only where they are absent, unless a service's own pull policy says
        otherwise. Services in `force_recreate` are replaced even if nothing has changed.

        Raises:
            ComposeError: Compose, or the engine below it, refused, or the deadline passed.
            EngineUnreachableError: The engine did not answer.
        """
        self._run(["create", "--quiet-pull", *(services or ())], deadline)
        if force_recreate:
            self._run(["create", "--quiet-pull", "--force-recreate", *force_recreate], deadline)

    def pull(self, services: Sequence[str] = (), *, deadline: timedelta = _CREATE) -> None:
        """Fetch the images of the given services, or of all; those that can only be built are left out.

        Raises:
            ComposeError: An image cannot be had.
        """
        self._run(["pull", "--quiet", "--ignore-buildable", *services], deadline)

    def remove(self, services: Sequence[str], *, deadline: timedelta = timedelta(minutes=2)) -> None:
        """Stop and remove the containers of the given services; networks and volumes stay.

        Raises:
            ComposeError: The engine refused.
        """
        self._run(["rm", "--force", "--stop", *services], deadline)

    def down(self, *, remove_orphans: bool = False, deadline: timedelta = timedelta(minutes=5)) -> None:
        """Stop and remove all containers and networks of the project; named volumes are never touched.

        Raises:
            ComposeError: The engine refused.
        """
        self._run(["down", *(["--remove-orphans"] if remove_orphans else [])], deadline)

    def _document(self) -> tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]:
        rendered, warnings = self._config()
        document: dict[str, Any] = _unescaped(rendered)
        document["services"] = document.get("services") or {}
        return document, warnings, rendered

    def _unfilled(self) -> dict[str, Any]:
        known = variables_of(self._environment, self._variables)
        with tempfile.TemporaryDirectory(prefix="roas-") as folder:
            files = []
            for number, file in enumerate(self._environment.compose_files):
                copy = Path(folder, f"{number}-{file.name}")
                # With its default a variable has colons, at which Compose would split a mount or a port.
                text = _text_of(file)
                copy.write_text(_without_defaults(text, known), encoding="utf-8")
                files.append(str(copy))
            try:
                template, _ = self._config("--no-interpolate", files=files)
            except ComposeError as error:
                raise ComposeError(error.what, advice="Write that value without a variable.") from error
        _as_written(template, f"{self._folder()}/$")
        return template

    def _config(self, *options: str, files: Sequence[str] = ()) -> tuple[dict[str, Any], tuple[str, ...]]:
        out, err = self._run(["config", "--format", "json", *options], _QUICK, files=files)
        try:
            return json.loads(out), _warnings(Redactor(concealed_values(self._environment)).text(printable(err)))
        except json.JSONDecodeError as error:
            raise ComposeError(
                "Compose gave a configuration that is not JSON.",
                advice="Is this Compose 2? Run `docker compose config --format json` to see.",
            ) from error

    def _project(self, files: Sequence[str]) -> list[str]:
        named = self._environment
        options = ["--ansi", "never", "--progress", "plain", "--project-name", named.project]
        options += ["--project-directory", self._folder()]
        for option, values in (
            ("--file", files),
            ("--env-file", named.env_files),
            ("--profile", named.profiles),
        ):
            for value in values:
                options += [option, str(value)]
        return options

    def _run(
        self,
        arguments: Sequence[str],
        deadline: timedelta,
        *,
        on_project: bool = True,
        rendered: str | None = None,
        files: Sequence[str] = (),
    ) -> tuple[str, str]:
        """Run Compose on a configuration it rendered before or on the given files, else on the document,
        else on the environment's files."""
        if rendered is None and not files and self._template is not None and on_project:
            rendered = json.dumps(self._template)
        files = ["-"] if rendered is not None else files or [str(file) for file in self._environment.compose_files]
        if on_project:
            beside = (Path(self._folder(), ".env"),)
            _check_files([*(Path(file) for file in files if file != "-"), *(self._environment.env_files or beside)])
        command = ["docker", "compose", *(self._project(files) if on_project else ()), *arguments]
        variables = {"PATH": os.defpath, **self._variables}
        try:
            # A group of its own: the plugin that does the work is a child of the docker command, and must
            # end with it when the deadline passes.
            process = subprocess.Popen(
                command,
                env=variables,
                stdin=subprocess.DEVNULL if rendered is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise ComposeError(
                "The docker command was not found.", advice="Install Docker's command line and Compose 2."
            ) from error
        with process:
            try:
                out, err = process.communicate(rendered, timeout=deadline.total_seconds())
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                process.communicate()
                raise ComposeError(
                    f"docker compose {arguments[0]} did not end within {deadline.total_seconds():g} s.",
                    advice="Is the engine busy, or is an image being fetched or built slowly?",
                ) from error
        if process.returncode != 0:
            raise self._failure(arguments[0], out, err)
        return out, err

    def _folder(self) -> str:
        return str(self._environment.compose_files[0].parent.absolute())

    def _files(self) -> str:
        if self._template is not None:
            return f"the configuration kept of {self._environment.name}"
        return ", ".join(path.name for path in self._environment.compose_files)

    def _failure(self, subcommand: str, out: str, err: str) -> RoasError:
        redactor = Redactor(concealed_values(self._environment))
        words = redactor.text(_own_words(printable(err or out)))
        if re.search(r"cannot connect to the docker daemon|error during connect", words, re.IGNORECASE):
            return EngineUnreachableError(self._environment.engine)
        if re.search(r"permission denied while trying to connect", words, re.IGNORECASE):
            return EnginePermissionError(
                f"This user may not talk to the Docker engine at {self._environment.engine}.",
                advice="Join the group that owns the socket, or use sudo.",
            )
        advice = next((hint for text, hint in _ADVICE if re.search(text, words, re.IGNORECASE)), "")
        if "failed to solve: process" in words:
            # The step that failed says why on the other stream, where Compose shows the build's progress.
            words = f"{words}; it said last: {redactor.text(_last_of_build(printable(out)))}"
        return ComposeError(f"docker compose {subcommand} of {self._files()} failed: {words}", advice=advice)


_ADVICE = (
    (r"is not a docker command|unknown shorthand flag: 'f'", "Install the Compose 2 plugin of Docker."),
    (
        r"pull access denied|manifest (for .* )?(unknown|not found)|repository .* not found|unauthorized",
        "Check the image's name and tag, and that the engine is logged in to its registry.",
    ),
    (
        r"lookup .*(no such host|server misbehaving|timeout|i/o)|tls handshake|dial tcp .*refused",
        "The image's registry cannot be reached from the engine: check DNS, proxy and network, or load the image.",
    ),
    (r"failed to solve: process", "Correct that step of the Dockerfile."),
    (r"no matching manifest for", "The image is not made for this machine's platform."),
    (r"no space left on device", "Free space on the engine's disk; `docker system df` shows what is used."),
    (r"port is already allocated|address already in use", "Free that port, or publish another one."),
    (r"is already in use by container", "Another container has that name: remove or rename one."),
    (r"address pools?.*(subnet|fully)|pool overlaps", "Remove unused networks, or give other subnets."),
    (r"invalid mount|bind source path does not exist", "Make that path on the host."),
    (r"env file .* not found|env_file", "Make that file, or mark it as not required."),
    (r"no such file or directory.*\.ya?ml|\.ya?ml: no such file", "Check compose_files in the environment."),
    (r"required variable|missing a value", "Set that variable before starting."),
    (r"yaml: (line|unmarshal|did|found)|mapping values|did not find expected", "Correct the file at that place."),
    (r"dependency cycle|cycle found", "Take one depends_on out of the circle."),
    (
        r"undefined (service|network|volume|secret|config)|refers to undefined",
        "Declare it, or correct the name.",
    ),
    (
        r"additional propert|must be a|unsupported|invalid|cannot unmarshal|validating",
        "Compare that field with the Compose file format.",
    ),
)


def _check_files(files: Sequence[Path]) -> None:
    """Refuse what Compose would wait for, as a FIFO, or would read without an end, as a device."""
    for file in files:
        try:
            check_regular(file)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # Compose tells it in its own words, and may do without `.env`.
            continue
        except OSError as error:
            raise _unusable(file, error) from error


def _text_of(file: Path) -> str:
    try:
        return read_regular(file).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(file, error) from error


def _unusable(file: Path, error: OSError | UnicodeDecodeError) -> ComposeError:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    return ComposeError(f"File {file} cannot be used: {reason};", advice="give a text file of at most 1 MiB.")


def _own_words(output: str) -> str:
    """What Compose says failed, without its progress lines, its warnings and its time stamps."""
    errors = []
    for line in output.splitlines():
        logged = _LOGGED.match(line)
        if logged is not None:
            if logged["level"] in ("error", "fatal"):
                errors.append(_message(logged["message"]))
        elif line.strip():
            errors.append(line.strip())
    for index, line in enumerate(errors):
        # From the engine's verdict on, everything belongs to it; before it stand progress lines.
        if re.match(r"(Error|failed to|unable to|service \S+)\b", line):
            return " ".join(errors[index : index + 6])
    return errors[-1] if errors else "no reason was given"


def _last_of_build(progress: str) -> str:
    """The last lines a build step printed, which stand behind its number and its time."""
    printed = re.findall(r"^#\d+ [\d.]+ (.+)$", progress, re.MULTILINE)
    return " / ".join(printed[-3:]) or "nothing"


_LOGGED = re.compile(r'time="[^"]*" level=(?P<level>\w+) msg=(?P<message>".*?(?<!\\)"|\S+)')


def _message(quoted: str) -> str:
    return quoted[1:-1].replace('\\"', '"').replace("\\\\", "\\") if quoted.startswith('"') else quoted


def _warnings(err: str) -> tuple[str, ...]:
    found = [_LOGGED.match(line) for line in err.splitlines()]
    said = [_message(one["message"]) for one in found if one is not None and one["level"] == "warning"]
    return tuple(dict.fromkeys(said))


def _variables(table: str) -> tuple[ComposeVariable, ...]:
    lines = table.splitlines()
    if not lines:
        return ()
    head = lines[0]
    starts = [match.start() for match in re.finditer(r"\S+(?: \S+)*", head)]
    found = []
    for line in lines[1:]:
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        name, required, default, alternate = (*cells, "", "", "")[:4]
        if name:
            found.append(ComposeVariable(name=name, required=required == "true", default=default, alternate=alternate))
    return tuple(sorted(found, key=lambda variable: variable.name))


def _unescaped(value: Any) -> Any:
    """Compose doubles every dollar sign of the configuration it prints, so that it could be read again."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    return value


def _self_contained(rendered: dict[str, Any]) -> str:
    """What Compose printed, without optional dependencies on services it left out: it refuses those itself."""
    services = rendered.get("services") or {}
    contained = {
        name: body
        | {"depends_on": {other: entry for other, entry in (body.get("depends_on") or {}).items() if other in services}}
        for name, body in services.items()
    }
    return json.dumps(rendered | {"services": contained})


def _without_defaults(text: str, known: Mapping[str, str]) -> str:
    """Each variable with a default replaced by the variable alone, or by the default where that counts."""

    def chosen(found: re.Match[str]) -> str:
        name, operator, default = found.groups()
        is_set = bool(known.get(name)) if operator == ":-" else name in known
        return f"${{{name}}}" if is_set else _without_defaults(default, known)

    return _WITH_DEFAULT.sub(chosen, text)


_WITH_DEFAULT = re.compile(r"(?<!\$)\$\{(\w+)(:?-)((?:[^{}]|\$\{[^{}]*\})+)\}")


def _as_written(value: Any, misplaced: str) -> None:
    """Compose puts its folder before a path that begins with a variable, as if it were relative."""
    if isinstance(value, list):
        for item in value:
            _as_written(item, misplaced)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in _PATHS and isinstance(item, str) and item.startswith(misplaced):
                value[key] = item[len(misplaced) - 1 :]
            else:
                _as_written(item, misplaced)


_PATHS = frozenset({"context", "file", "path", "source"})


def _tell_paths_from_volumes(service: dict[str, Any], filled: dict[str, Any]) -> None:
    """Only where it is filled, a variable shows whether it stands for a path or for the name of a volume."""
    mounts = service.get("volumes") or []
    meant = {mount["target"]: mount for mount in filled.get("volumes") or []}
    for index, mount in enumerate(mounts):
        entry = meant.get(mount.get("target"))
        if entry is not None and entry["type"] != mount.get("type") and "source" in mount:
            mounts[index] = entry | {"source": mount["source"]}


def _name_arguments(service: dict[str, Any], filled: dict[str, Any]) -> None:
    """Of build arguments in a list, Compose loses those that only name a variable."""
    build = service.get("build") or {}
    if "args" in build and not isinstance(build["args"], dict):
        listed = dict(argument.split("=", 1) for argument in build["args"] or ())
        named = (filled.get("build") or {}).get("args") or {}
        build["args"] = {name: f"${{{name}}}" for name in named} | listed


def _first_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Where two documents differ first, by section and name; never a value."""
    for section in one:
        mine, others = one[section], other.get(section)
        if mine != others:
            if isinstance(mine, dict) and isinstance(others, dict):
                return next(f"{section}.{name}" for name in {**mine, **others} if mine.get(name) != others.get(name))
            return section
    return "a section"


def _joined(document: dict[str, Any], service: str) -> dict[str, Any]:
    return (document["services"].get(service) or {}).get("networks") or {}


def _application(document: dict[str, Any], hashes: Mapping[str, str], warnings: tuple[str, ...]) -> Application:
    project = document["name"]
    raw: dict[str, Any] = document["services"]
    awaited = {
        other
        for service in raw.values()
        for other, entry in (service.get("depends_on") or {}).items()
        if entry.get("condition") == DependencyCondition.COMPLETED
    }
    services = {
        name: _service(project, name, body, hashes.get(name, ""), document, awaited=name in awaited)
        for name, body in sorted(raw.items())
    }
    networks = [
        NetworkDeclaration(
            key=key,
            name=body.get("name", key),
            external=bool(body.get("external")),
            driver=body.get("driver", ""),
            subnets=tuple(
                part["subnet"] for part in (body.get("ipam") or {}).get("config") or () if part and part.get("subnet")
            ),
        )
        for key, body in _section(document, "networks")
    ]
    volumes = [
        VolumeDeclaration(
            key=key,
            name=body.get("name", key),
            external=bool(body.get("external")),
            driver=body.get("driver", ""),
        )
        for key, body in _section(document, "volumes")
    ]
    return Application(
        project=project,
        services=services,
        networks=tuple(networks),
        volumes=tuple(volumes),
        files=tuple(_files(document)),
        warnings=warnings,
    )


def _section(document: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, body in (document.get(name) or {}).items():
        yield key, body or {}


def _files(document: dict[str, Any]) -> Iterator[MountedFile]:
    for section, kind in (("configs", "config"), ("secrets", "secret")):
        for key, body in _section(document, section):
            users = [
                name
                for name, service in document["services"].items()
                if any(entry.get("source") == key for entry in service.get(section) or ())
            ]
            if body.get("file") and users:
                yield MountedFile(kind=kind, key=key, path=body["file"], services=tuple(sorted(users)))


def _service(
    project: str,
    name: str,
    body: dict[str, Any],
    config_hash: str,
    document: dict[str, Any],
    *,
    awaited: bool,
) -> ServiceDeclaration:
    deploy, build = body.get("deploy") or {}, body.get("build") or {}
    resources = deploy.get("resources") or {}
    limits, reservations = resources.get("limits") or {}, resources.get("reservations") or {}
    inside = tuple(sorted(_inside_of(body)))
    ports = () if body.get("network_mode") == "host" else tuple(map(_port, body.get("ports") or ()))
    healthcheck = _healthcheck(body["healthcheck"]) if body.get("healthcheck") else None
    restart = _restart_policy(body, deploy)
    stays_up = (
        restart in {"always", "unless-stopped"} or bool(ports) or (healthcheck is not None and not healthcheck.disabled)
    )
    return ServiceDeclaration(
        name=name,
        image=body.get("image") or f"{project}-{name}",
        build=bool(body.get("build")),
        build_context=build.get("context") or "",
        dockerfile=build.get("dockerfile") or "",
        user=str(body.get("user") or ""),
        pull_policy=body.get("pull_policy", ""),
        platform=body.get("platform"),
        depends_on={
            other: DependsOn(
                condition=DependencyCondition(entry.get("condition", DependencyCondition.STARTED)),
                required=entry.get("required", True),
                restart=entry.get("restart", False),
            )
            for other, entry in sorted((body.get("depends_on") or {}).items())
        },
        healthcheck=healthcheck,
        restart=restart,
        replicas=_first(body.get("scale"), deploy.get("replicas"), 1),
        profiles=tuple(body.get("profiles") or ()),
        ports=ports,
        mounts=tuple(_mount(entry) for entry in body.get("volumes") or ()),
        networks=tuple(sorted(body.get("networks") or ())),
        environment_names=tuple(sorted(body.get("environment") or ())),
        memory_limit_bytes=_number(limits.get("memory"), body.get("mem_limit"), kind=int),
        memory_reservation_bytes=_number(reservations.get("memory"), body.get("mem_reservation"), kind=int),
        cpu_limit=_number(limits.get("cpus"), body.get("cpus"), kind=float),
        cpu_reservation=_number(reservations.get("cpus"), kind=float),
        open_files=_open_files((body.get("ulimits") or {}).get("nofile")),
        stop_grace_period=_first(_duration(body.get("stop_grace_period")), timedelta(seconds=10)),
        container_name=body.get("container_name"),
        inside_of=inside,
        injects_files=bool(next(_injected_keys(document, body), None)),
        # Compose hashes such a service with the other container's id filled in, which only it knows.
        config_hash="" if inside else config_hash,
        awaited=awaited,
        one_shot=awaited or not stays_up,
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _number(*values: Any, kind: type[Any]) -> Any:
    """The first value that says something; Compose prints 0 and the empty string for "not limited"."""
    return next((kind(float(value)) for value in values if value not in (None, "", "0", 0)), None)


def _open_files(limit: Any) -> int | None:
    if isinstance(limit, dict):
        return limit.get("soft")
    return int(limit) if limit is not None else None


def _inside_of(body: dict[str, Any]) -> set[str]:
    found = {
        value.removeprefix("service:")
        for key in ("network_mode", "ipc", "pid")
        if (value := body.get(key) or "").startswith("service:")
    }
    for entry in body.get("volumes_from") or ():
        if not entry.startswith("container:"):
            found.add(entry.split(":")[0])
    return found


def _restart_policy(body: dict[str, Any], deploy: dict[str, Any]) -> str:
    if body.get("restart"):
        return str(body["restart"]).split(":")[0]
    wanted = deploy.get("restart_policy")
    if wanted is None:
        return "no"
    return {"none": "no", "on-failure": "on-failure"}.get(wanted.get("condition") or "any", "always")


def _healthcheck(body: dict[str, Any]) -> HealthcheckDeclaration:
    test = body.get("test")
    return HealthcheckDeclaration(
        test=tuple(test) if test else None,
        disabled=bool(body.get("disable")) or list(test or ()) == ["NONE"],
        interval=_duration(body.get("interval")),
        timeout=_duration(body.get("timeout")),
        retries=body.get("retries"),
        start_period=_duration(body.get("start_period")),
        start_interval=_duration(body.get("start_interval")),
    )


def _port(entry: dict[str, Any]) -> PublishedPort:
    first, _, last = str(entry.get("published") or "").partition("-")
    return PublishedPort(
        target=int(entry["target"]),
        published=int(first) if first and first != "0" else None,
        published_last=int(last) if last else None,
        host_ip=entry.get("host_ip", ""),
        protocol=entry.get("protocol", "tcp"),
    )


def _mount(entry: dict[str, Any]) -> Mount:
    kind = entry.get("type", "")
    return Mount(
        kind=MountKind(kind) if kind in set(MountKind) else MountKind.OTHER,
        target=entry.get("target", ""),
        source=entry.get("source", ""),
        read_only=entry.get("read_only", False),
        create_host_path=(entry.get("bind") or {}).get("create_host_path", False),
    )


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _duration(text: str | None) -> timedelta | None:
    """A duration as Go prints it: 1m5s, 500ms."""
    if not text:
        return None
    parts = re.findall(r"([\d.]+)(h|ms|m|s|us|µs|ns)", text)
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def _injected_keys(document: dict[str, Any], service: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section, sources in (("configs", ("content", "environment")), ("secrets", ("environment",))):
        for entry in service.get(section) or ():
            body = (document.get(section) or {}).get(entry.get("source")) or {}
            if any(body.get(source) for source in sources):
                yield section, entry


def _injected(document: dict[str, Any], service: dict[str, Any], known: Mapping[str, str]) -> Iterator[InjectedFile]:
    for section, entry in _injected_keys(document, service):
        source = entry["source"]
        body = document[section][source]
        content = body.get("content", "")
        if body.get("environment"):
            if body["environment"] not in known:
                raise ComposeError(
                    f"{section} {source} comes from the variable {body['environment']}, which is not set.",
                    advice="Set that variable before starting.",
                )
            content = known[body["environment"]]
        folder = "/run/secrets/" if section == "secrets" else "/"
        target = entry.get("target") or source
        mode, uid, gid = entry.get("mode"), entry.get("uid"), entry.get("gid")
        yield InjectedFile(
            target=target if target.startswith("/") else folder + target,
            content=content.encode(),
            mode=0o444 if mode is None else int(str(mode), 8 if isinstance(mode, str) else 10),
            uid=int(uid) if uid else None,
            gid=int(gid) if gid else None,
        )
