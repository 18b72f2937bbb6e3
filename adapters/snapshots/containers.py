"""Commands that stream data out of containers and into them, by Docker's command line: it reaches every engine.

A stream of the engine's interface passes through this process only as chunks, and an engine on another machine is
reached as Compose reaches it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.snapshots.folders import folder_on_this_machine
from adapters.snapshots.streams import Command, Ended, Limit, run
from models.failures import SnapshotError, StillPausedError

LABEL = "com.roas.snapshot"
"""Label of the containers that exist only for a snapshot: its id."""

REHEARSAL = "rehearsal-"
"""Begins the label of the containers of a rehearsal."""

_GO_ON_SECONDS = 60

FOLDER = "/roas-data"
"""Where a helper container has the volume."""


class EngineCommands:
    """Docker's command line at one engine; `variables` are its environment, with DOCKER_HOST."""

    def __init__(self, variables: Mapping[str, str], snapshot_id: str, limit: Limit) -> None:
        self._variables = dict(variables)
        self._label = f"{LABEL}={snapshot_id}"
        self._limit = limit

    def exec(
        self, container: str, what: str, command: Sequence[str], secret: Mapping[str, str] | None = None,
        *, with_input: bool = False, user: str = "",
    ) -> Command:  # fmt: skip
        """A program inside a container; `secret` are variables whose values no argument holds."""
        options = ["--interactive"] if with_input else []
        options += ["--user", user] if user else []
        options += [word for name in secret or {} for word in ("--env", name)]
        return self._docker(what, "exec", *options, container, *command, secret=secret)

    def ask(self, command: Command, data: bytes = b"") -> Ended:
        """Run a command to its end; its exit code is for the caller to judge.

        Raises:
            SnapshotError: It did not end in time.
        """
        return run(command, self._limit, data)

    def answer(self, command: Command, data: bytes = b"") -> str:
        """What a command prints.

        Raises:
            StreamFailedError: It failed.
        """
        ended = run(command, self._limit, data)
        ended.check(command)
        return ended.output

    def exit_code(self, container: str) -> str | None:
        """How a container ended that nothing starts again; None while it runs or the engine restarts it."""
        shown = self.ask(
            self._docker("looking", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container)
        )
        state, _, code = shown.output.strip().partition(" ")
        return code if state in ("exited", "dead") else None

    def copy_out(self, container: str, path: str, what: str) -> Command:
        """A tar archive of all that a folder has, of a container that need not run."""
        return self._docker(what, "cp", f"{container}:{path}/.", "-")

    def archive(self, container: str, path: str, what: str) -> Command:
        """The same of a container that runs and has tar, by a program inside it, as root."""
        return self.exec(container, what, ("tar", "-C", path, "-cf", "-", "."), user="0")

    def copy_in(self, container: str, path: str, what: str) -> Command:
        """Unpacks a tar archive into a folder of a container that need not run; owners and modes are kept."""
        return self._docker(what, "cp", "--archive", "-", f"{container}:{path}")

    @contextmanager
    def helper(self, image: str, source: str, *, read_only: bool) -> Iterator[str]:
        """A container that is never started and has a volume or folder at `FOLDER`; its id."""
        mount = f"{source}:{FOLDER}{':ro' if read_only else ''}"
        options = ("--network", "none", "--label", self._label, "--volume", mount, "--entrypoint", "roas")
        made = self.answer(self._docker("making a container to read files", "create", *options, image, "never"))
        container = made.strip().splitlines()[-1]
        try:
            yield container
        finally:
            self.remove(container)

    def script(
        self, image: str, script: str, arguments: Sequence[str], what: str, *,
        volume: str = "", volumes_from: str = "", with_input: bool = False, read_only: bool = False,
    ) -> Command:  # fmt: skip
        """A shell script in a container of its own, as root, without network, with the volumes of another one.

        It runs to its end on the engine even where this process is killed.
        """
        access = ":ro" if read_only else ""
        mounts = ("--volume", f"{volume}:{FOLDER}{access}") if volume else ("--volumes-from", volumes_from)
        options = ("--rm", "--network", "none", "--user", "0", "--label", self._label, *mounts, "--entrypoint", "sh")
        interactive = ("--interactive",) if with_input else ()
        return self._docker(what, "run", *interactive, *options, image, "-c", script, "sh", *arguments)

    def folder_of(self, volume: str) -> Path | None:
        """The folder of a volume, where it is on this machine and this process may read and write all of it.

        Raises:
            SnapshotError: The engine did not answer in time.
        """
        return folder_on_this_machine(self._variables, volume, self._limit)

    def remove_left(self, snapshot_ids: Collection[str]) -> None:
        """Remove the containers of these snapshots, and of their rehearsals, that killed processes left.

        No other process may work with these snapshots. A script that runs is left to its end.
        """
        shown = f'{{{{.ID}}}}\t{{{{.State}}}}\t{{{{.Label "{LABEL}"}}}}'
        listed = self._docker("listing containers", "ps", "--all", "--filter", f"label={LABEL}", "--format", shown)
        for line in self.ask(listed).output.splitlines():
            container, state, owner = line.split("\t")
            rehearsed = owner.removeprefix(REHEARSAL)
            if rehearsed in snapshot_ids and (rehearsed != owner or state == "created"):
                self.remove(container)

    def start_times(self, containers: Collection[str]) -> dict[str, str]:
        """When each of these containers that there are was started, as the engine writes it.

        Raises:
            SnapshotError: The engine did not answer in time.
        """
        shown = self._docker("looking", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *containers)
        # One that is gone fails the command, which shows the others all the same.
        lines = self.ask(shown).output.splitlines() if containers else []
        return dict(line.split() for line in lines if len(line.split()) == 2)

    def pause(self, containers: Sequence[str]) -> None:
        """Let no process of these containers run until `unpause`."""
        if containers:
            self.answer(self._docker("pausing containers", "pause", *containers))

    def unpause(self, containers: Sequence[str]) -> None:
        """Let them run again; one that is not paused stays as it is.

        Raises:
            StillPausedError: The engine did not let one go on, or did not answer.
        """
        # The snapshot may have run out of its time, they have to go on all the same.
        limit = Limit(_GO_ON_SECONDS)
        refused: Exception | None = None
        for container in containers:
            try:
                run(self._docker("unpausing a container", "unpause", container), limit)
            except (SnapshotError, OSError) as error:
                refused = error
        paused = self._docker("listing containers", "ps", "--no-trunc", "--quiet", "--filter", "status=paused")
        try:
            ended = run(paused, limit)
            ended.check(paused)
        except (SnapshotError, OSError) as error:
            raise StillPausedError(f"{_name_of(containers)} may still be paused: {error}") from error
        if still := [container for container in containers if container in ended.output.split()]:
            raise StillPausedError(
                f"{_name_of(still)} stayed paused;", advice=f"`docker unpause {_name_of(still)}` lets it go on."
            ) from refused

    def remove(self, container: str) -> None:
        """Remove a container of ours with its own volumes; does nothing if it is gone."""
        # The snapshot may have run out of its time, the container has to go all the same.
        command = self._docker("removing a container", "rm", "--force", "--volumes", container)
        with suppress(SnapshotError):
            run(command, Limit(60))

    def _docker(self, what: str, *words: str, secret: Mapping[str, str] | None = None) -> Command:
        return Command(what=what, arguments=("docker", *words), variables={**self._variables, **(secret or {})})


def _name_of(containers: Sequence[str]) -> str:
    return " ".join(container[:12] for container in containers)


ASIDE = f"{FOLDER}/.roas-restore"
"""Where a helper container has the files that are put back, until they are complete."""

PREPARE_FILES = """
set -e
umask 077
rm -rf "$1" "$1-gone"
mkdir -p "$1/new"
"""
"""Makes a place for files that are put back; those that are there stay as they are. Argument: that place."""

SWITCH_FILES = """
set -e
cd "$1"
aside=$2
[ -d "$aside/new" ] || { echo "what was to be put back is gone" >&2; exit 3; }
mkdir -p "$aside/old"
if [ ! -e "$aside/moved" ]; then
    for one in ./* ./.[!.]* ./..?*; do
        [ -e "$one" ] || [ -L "$one" ] || continue
        case $one in ./.roas-restore*) ;; *) mv "$one" "$aside/old/" ;; esac
    done
    touch "$aside/moved"
fi
for one in "$aside"/new/* "$aside"/new/.[!.]* "$aside"/new/..?*; do
    [ -e "$one" ] || [ -L "$one" ] || continue
    mv "$one" ./
done
# Under another name: a killed restore that is taken up again makes its place anew meanwhile.
mv "$aside" "$aside-gone"
rm -rf "$aside-gone"
"""
"""Puts complete files in the place of the others; one that was cut off goes on where it was.

Arguments: the folder, and the place where the complete ones are, on the same file system.
"""

PUT_FILE = """
set -e
file=$1 new=$2 size=$3 manifest=$4 text=$5
shift 5
folder=$(dirname "$new")
owner=$(stat -c %u:%g "$folder")
rm -rf "$new"
if [ -e "$file" ]; then cp -p "$file" "$new"; fi
cat > "$new"
[ "$(wc -c < "$new")" -eq "$size" ] || { rm -f "$new"; echo "the input ended early" >&2; exit 3; }
if [ ! -e "$file" ]; then chown "$owner" "$new"; chmod 600 "$new"; fi
for old in "$@"; do rm -rf "$old"; done
if [ ! -d "$(dirname "$file")" ]; then mkdir "$(dirname "$file")"; chown "$owner" "$(dirname "$file")"; fi
if [ -n "$manifest" ]; then printf '%s\n' "$text" > "$manifest"; chown "$owner" "$manifest"; fi
mv "$new" "$file"
"""
"""Puts its input in the place of a file once it is complete.

Arguments: the file, where its content is collected, its size in bytes, a manifest beside it, the manifest's text, and
what is to be removed.
"""
