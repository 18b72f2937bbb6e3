"""Compose client: it alone reads, merges and hashes Compose files and creates containers from them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from adapters.compose.declared_secrets import concealed_values, secrets_of_document
from adapters.compose.failures import compose_failure, unusable_file, warnings
from adapters.compose.parsing import (
    injected_files,
    network_places,
    parse_application,
    parse_variables,
    self_contained,
    unescape,
)
from adapters.compose.program import compose_program
from adapters.compose.secret_places import receivers
from adapters.compose.sources import read_sources
from adapters.compose.template import complete_template, first_difference, without_defaults
from adapters.compose.traits import recognise_programs, service_traits
from adapters.compose.variables import plain_env_files, variables_of
from adapters.git.places import current_checkout
from adapters.host.private_files import check_regular, read_regular
from adapters.host.programs import ProgramResult, ProgramRun, run_to_end
from core.deployment.release import VALUES
from core.errors.redact import Redactor
from models.adoption import ServiceTraits
from models.compose import Application, ComposeVariable, InjectedFile, NetworkPlace
from models.environments import Environment, Secret
from models.failures import ComposeError
from models.settings import current_settings

_READ = timedelta(seconds=30)
_CREATE = timedelta(minutes=15)
_BUILD = timedelta(minutes=30)
_MOST_BYTES = 256 * 2**20

_versions: dict[tuple[str, int, int, int], str] = {}
"""What programs said, by path, inode, size and time of their last change."""


class ComposeCli:
    """Compose for one environment, run with the given variables.

    A `document`, as `template` returns it, replaces the environment's Compose files, which are then not read. Every
    call blocks until Compose has ended or its deadline has passed, and raises a ComposeError when Compose fails and
    an EngineUnreachableError when the engine does not answer. Threads may share one object.
    """

    def __init__(
        self, environment: Environment, variables: Mapping[str, str], document: Mapping[str, Any] | None = None
    ) -> None:
        self._environment = environment
        self._variables = dict(variables)
        # Compose would fill in variables of the values, too.
        self._template = None if document is None else {key: value for key, value in document.items() if key != VALUES}
        self._concealed = frozenset[str]() if document is None else secrets_of_document(environment, document)

    def version(self) -> str:
        """The version of Compose, such as 2.26.1; a program of its own that has not changed is asked once."""
        program = compose_program(self._variables)
        if len(program) > 1:
            return self._asked_version()
        state = Path(program[0]).stat()
        key = (program[0], state.st_ino, state.st_size, state.st_mtime_ns)
        if key not in _versions:
            _versions[key] = self._asked_version()
        return _versions[key]

    def _asked_version(self) -> str:
        return self._run(["version", "--short"], on_project=False)[0].strip().removeprefix("v")

    def render(self) -> Application:
        """Read what the Compose files declare."""
        document, err, rendered = self._document()
        # Hashed as rendered: what comes from env_file then counts, as it does in the containers' labels.
        hashing = self._run(["config", "--hash", "*"], rendered=self_contained(rendered))
        hashes = dict(line.split(maxsplit=1) for line in hashing[0].splitlines() if line.strip())
        return recognise_programs(parse_application(document, hashes, warnings(err, self._redactor())), document)

    def filled(self) -> dict[str, Any]:
        """What the Compose files declare as Compose prints it, with all values: never to be stored or shown."""
        return self._config()[0]

    def template(self) -> dict[str, Any]:
        """Merge the files into one document that names its variables and env_files but holds none of their values.

        Raises:
            ComposeError: With the same variables, the document would not render to the same application.
        """
        if self._template is not None:
            return self._template
        filled, _ = self._config()
        template = complete_template(self.without_values(), filled, self._folder())
        again, _ = ComposeCli(self._environment, self._variables, template)._config()
        if again != filled:
            raise ComposeError(
                f"{self._files()} cannot be kept with variables unfilled: {first_difference(filled, again)} "
                "would come out differently.",
                advice="Write the paths there without variables; an included project's own .env is not kept.",
            )
        return template

    def traits(self) -> dict[str, ServiceTraits]:
        """What tells which program each service runs, by service."""
        unfilled = () if self._template is not None else read_sources(self._environment.compose_files).documents
        return service_traits(self._document()[0], unfilled)

    def receivers(self, secret: Secret, value: str) -> frozenset[str]:
        """The services that get a secret: its value in any field, or its file."""
        return receivers(self._document()[0], secret, value)

    def variables(self) -> tuple[ComposeVariable, ...]:
        """The variables that the Compose files use."""
        return parse_variables(self._run(["config", "--variables"])[0])

    def injections(self) -> dict[str, tuple[InjectedFile, ...]]:
        """The files to copy into each service's containers just before they start, by service.

        Compose copies inline configs, and secrets from variables, at its own start command only.
        """
        document, _, _ = self._document()
        return injected_files(document, variables_of(self._environment, self._variables))

    def places(self, service: str) -> tuple[NetworkPlace, ...]:
        """A service's addresses and aliases in each of its networks."""
        return network_places(self._document()[0], service)

    def create(
        self,
        services: Sequence[str] = (),
        *,
        force_recreate: Sequence[str] = (),
        deadline: timedelta = _CREATE,
        fetched: bool = False,
        alone: bool = False,
    ) -> None:
        """Create missing containers, networks and volumes, and replace changed ones; starts nothing.

        Images are pulled or built only where they are absent, unless a service's own pull policy says otherwise.
        Services in `force_recreate` are replaced even if nothing has changed. With `fetched` the pull policies were
        followed already, so only absent images are pulled or built. `alone`: only `services`, none that they depend on.
        """
        settled = ["--pull", "missing"] if fetched else []
        how = ["up", "--no-start", "--no-deps"] if alone else ["create"]
        self._run([*how, "--quiet-pull", *settled, *services], deadline)
        if force_recreate:
            self._run(["create", "--quiet-pull", "--force-recreate", *force_recreate], deadline)

    def create_another(self, service: str, count: int) -> None:
        """Create containers of a service until it has so many, as it is declared now; leaves those that are there.

        Its image must be there.
        """
        how = ["--quiet-pull", "--pull", "missing", "--no-recreate", "--scale", f"{service}={count}"]
        self._run(["create", *how, service], _CREATE)

    def pull(self, services: Sequence[str], *, always: bool = False) -> None:
        """Pull the images of services; those that can be built are left out unless `always`.

        With `always` an image is pulled even if the service's own pull policy is content with the engine's.
        """
        how = ["--policy", "always"] if always else ["--ignore-buildable"]
        self._run(["pull", "--quiet", *how, *services], _CREATE)

    def run_one_off(self, service: str, name: str, command: Sequence[str], labels: Mapping[str, str]) -> None:
        """Begin a one-off container of a service, of any profile, and leave what it depends on as it is.

        It keeps its container when it ends. `command` replaces the service's own, unless it is empty.
        """
        marks = [word for label in labels.items() for word in ("--label", "=".join(label))]
        options = ["--detach", "--no-deps", "--no-TTY", "--interactive=false", "--quiet-pull", "--name", name, *marks]
        self._run(["run", *options, service, *command], _CREATE)

    def build(self, services: Sequence[str]) -> None:
        """Build the images of services; what the build prints is shown only where it fails."""
        self._run(["build", *services], _BUILD)

    def _document(self) -> tuple[dict[str, Any], str, dict[str, Any]]:
        rendered, err = self._config()
        document: dict[str, Any] = unescape(rendered)
        document["services"] = document.get("services") or {}
        return document, err, rendered

    def without_values(self) -> dict[str, Any]:
        """The files merged as they are written: with variables unfilled, and literals.

        Raises:
            ComposeError: They cannot be merged so.
        """
        values = variables_of(self._environment, self._variables)
        # With its default a variable has colons, at which Compose would split a mount or a port.
        texts = [without_defaults(text_of(file), values) for file in self._environment.compose_files]
        try:
            return self.document_of(texts, "--no-interpolate")
        except ComposeError as error:
            raise ComposeError(error.what, advice="Write that value without a variable.") from error

    def document_of(self, texts: Sequence[str], *options: str) -> dict[str, Any]:
        """What Compose reads where the environment's files, in their order, have these texts.

        Raises:
            ComposeError: It refuses them.
        """
        with tempfile.TemporaryDirectory(prefix="roas-") as folder:
            files = []
            for number, (file, text) in enumerate(zip(self._environment.compose_files, texts, strict=True)):
                copy = Path(folder, f"{number}-{file.name}")
                copy.write_text(text, encoding="utf-8")
                files.append(str(copy))
            return self._config(*options, files=files)[0]

    def _config(self, *options: str, files: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
        out, err = self._run(["config", "--format", "json", *options], files=files)
        try:
            return json.loads(out), err
        except json.JSONDecodeError as error:
            raise ComposeError(
                "Compose gave a configuration that is not JSON.",
                advice="Is this Compose 2? Run `docker compose config --format json` to see.",
            ) from error

    def _run(
        self,
        arguments: Sequence[str],
        deadline: timedelta = _READ,
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
            _check_checkout(self._environment)
            beside = (Path(self._folder(), ".env"),)
            _check_files([*(Path(file) for file in files if file != "-"), *(self._environment.env_files or beside)])
        command = [*compose_program(self._variables), *(self._project(files) if on_project else ()), *arguments]
        done = _execute(command, self._variables, deadline, rendered, arguments[0])
        if done.code != 0:
            what = f"docker compose {arguments[0]} of {self._files()}"
            raise compose_failure(what, done, engine=self._environment.engine, redactor=self._redactor())
        return done.out, done.err

    def _redactor(self) -> Redactor:
        return Redactor(concealed_values(self._environment) | self._concealed)

    def _project(self, files: Sequence[str]) -> list[str]:
        named = self._environment
        options = ["--ansi", "never", "--progress", "plain", "--project-name", named.project]
        options += ["--project-directory", self._folder()]
        for option, values in (
            ("--file", files),
            ("--env-file", plain_env_files(named)),
            ("--profile", named.profiles),
        ):
            options += [word for value in values for word in (option, str(value))]
        return options

    def _folder(self) -> str:
        return str(self._environment.compose_files[0].parent.absolute())

    def _files(self) -> str:
        if self._template is not None:
            return f"the configuration kept of {self._environment.name}"
        return ", ".join(path.name for path in self._environment.compose_files)


def _execute(
    command: Sequence[str], variables: Mapping[str, str], deadline: timedelta, stdin: str | None, subcommand: str
) -> ProgramResult:
    """Run a command with input; its code is that of a command that ended by itself."""
    program = ProgramRun(
        words=command,
        variables={"PATH": os.defpath, **variables},
        limit_seconds=deadline.total_seconds(),
        most_bytes=_MOST_BYTES,
        given=(stdin or "").encode(),
    )
    try:
        result = run_to_end(program)
    except FileNotFoundError as error:
        raise ComposeError(
            "The docker command was not found.", advice="Install Docker's command line and Compose 2."
        ) from error
    if result.code is None:
        raise ComposeError(
            f"docker compose {subcommand} did not end within {deadline.total_seconds():g} s.",
            advice="Is the engine busy, or is an image being fetched or built slowly?",
        )
    return result


def _check_checkout(environment: Environment) -> None:
    if environment.source is not None:
        checkout = current_checkout(current_settings().data_dir, environment.name)
        if not checkout.exists():
            raise ComposeError(
                f"{environment.name} has no checkout of {environment.source.repository} yet;",
                advice=f"`roas sync {environment.name}` makes it.",
            )


def _check_files(files: Sequence[Path]) -> None:
    """Refuse files on which Compose would hang, such as a FIFO or a device."""
    for file in files:
        try:
            check_regular(file)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # Compose reports it itself, and does without `.env`.
            continue
        except OSError as error:
            raise unusable_file(file, error) from error


def text_of(file: Path) -> str:
    """The text of a Compose file.

    Raises:
        ComposeError: It cannot be read, or is not UTF-8.
    """
    try:
        return read_regular(file).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unusable_file(file, error) from error
