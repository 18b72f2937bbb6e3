"""The harms, each with what must come of it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import Category, Pattern, Severity, Strategy
from models.settings import Settings
from tasks.runtime.stores import open_stores
from tests.e2e.faults.scenes import IMAGE, says
from tests.e2e.healing.endured import End, Harm, tries_of
from tests.e2e.healing.scenes import SERVICES, Sample

_ENGINE_HANGS_SECONDS = 20
_RESTARTS = (Strategy.RESTART_SERVICE, Strategy.WAIT_AND_RETRY)
_NO_ANSWER = (Category.HEALTHCHECK_FAILED, Category.TIMEOUT)
_NOTES = {
    "image": IMAGE,
    "init": True,
    "restart": "no",
    "command": says(
        "touch /notes && rm -f /well; while date >/notes; do [ -e /tmp/ill ] || touch /tmp/well; sleep 1; done; exit 3"
    ),
    "tmpfs": ["/tmp"],
    "healthcheck": {"test": ["CMD", "test", "-e", "/tmp/well"], "interval": "1s", "start_interval": "200ms",
                    "start_period": "5s"},
}  # fmt: skip


def kill(service: str) -> Callable[[Sample], object]:
    """End a service's first process as the kernel would."""
    return lambda sample: sample.docker("kill", sample.container(service))


def fail(service: str, mode: str) -> Callable[[Sample], object]:
    """Let a service of the sample fail in one of its own ways."""
    return lambda sample: sample.inside(service, "fail", mode)


def docker(*words: str, service: str) -> Callable[[Sample], object]:
    """Say something to the engine about a service's container."""
    return lambda sample: sample.docker(*words, sample.container(service))


def _cut_from_network(sample: Sample) -> None:
    sample.within("bot", "ip", "link", "set", "eth0", "down")


def _break_names(sample: Sample) -> None:
    """Name servers no longer answer; open connections stay until they are cut off."""
    conf = sample.docker("inspect", "--format", "{{.ResolvConfPath}}", sample.container("bot"))
    Path(conf).write_text("nameserver 192.0.2.1\noptions timeout:1 attempts:1\n")
    sample.redis("client", "kill", "type", "normal", "skipme", "yes")


def _port_is_taken(sample: Sample) -> Iterator[None]:
    sample.docker("kill", sample.container("bot"))
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + 5
        while True:
            try:
                taken.bind(("127.0.0.1", sample.port))
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        taken.listen()
        yield


def _holder(sample: Sample, project: str) -> str:
    """A container of that project, with an undeclared service, takes the bot's port."""
    sample.docker("kill", sample.container("bot"))
    name = f"holder-{sample.mark}"
    labels = {"project": project, "service": "old", "config-hash": "of-yesterday"}
    words = [part for key, value in labels.items() for part in ("--label", f"com.docker.compose.{key}={value}")]
    sample.docker("run", "--detach", "--init", "--name", name, *words, "--publish", f"127.0.0.1:{sample.port}:80",
                  IMAGE, "sleep", "600")  # fmt: skip
    return name


@contextmanager
def _port_of_a_left_over(sample: Sample) -> Iterator[None]:
    name = _holder(sample, sample.project)
    try:
        yield
        assert sample.docker("inspect", "--format", "{{.State.Status}}", name) == "exited"
    finally:
        sample.docker("rm", "--force", name)


@contextmanager
def _port_of_a_stranger(sample: Sample) -> Iterator[None]:
    name = _holder(sample, "somebody-else")
    try:
        yield
        assert sample.docker("inspect", "--format", "{{.State.Status}}", name) == "running"
    finally:
        sample.docker("rm", "--force", name)


def _load_for_long(sample: Sample) -> None:
    """Redis reads its data again, slowly, and answers everybody that it is loading."""
    sample.redis("debug", "populate", "6000")
    sample.redis("config", "set", "loading-process-events-interval-bytes", "1024")
    sample.redis("config", "set", "key-load-delay", "2000")
    subprocess.Popen(
        ["docker", "exec", "-e", "REDISCLI_AUTH=for-the-campaign", sample.container("redis"),
         "redis-cli", "debug", "reload"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _spoil_the_data(sample: Sample) -> None:
    """What Redis wrote is no longer what it wrote, and it ends."""
    sample.redis("config", "set", "auto-aof-rewrite-percentage", "0")
    found = sample.inside("redis", "sh", "-c", "ls /data/appendonlydir/*.incr.aof")
    sample.redis("set", "one", "1")
    sample.inside("redis", "sh", "-c", f"printf 'garbage%.0s' 1 2 3 4 5 >> {found.split()[0]}; sync")
    sample.docker("kill", sample.container("redis"))


def _fill_the_volume(sample: Sample) -> None:
    sample.redis("config", "set", "appendfsync", "always")
    sample.inside("redis", "sh", "-c", "cat /dev/zero > /data/ballast")
    sample.redis("set", "two", "2")


def _volume_read_only(sample: Sample) -> None:
    # The file that is open for writing would keep it from being read-only.
    sample.redis("config", "set", "appendonly", "no")
    sample.within("redis", "mount", "-o", "remount,ro,bind", "/data", namespaces="-m")
    sample.redis("config", "set", "save", "1 1")
    sample.redis("bgsave")


def _root_read_only(sample: Sample) -> None:
    sample.within("notes", "mount", "-o", "remount,ro", "/", namespaces="-m")


def _image_gone(sample: Sample) -> None:
    sample.docker("rmi", "--force", sample.images["sample-bot"])
    sample.docker("kill", sample.container("bot"))


def _too_many_processes(sample: Sample) -> None:
    sample.inside("bot", "sh", "-c", "i=0; while [ $i -lt 80 ]; do sleep 600 & i=$((i+1)); done")


def _script(words: str) -> Callable[[Sample], object]:
    """A pattern for what the bot says when it ends, and the script that it asks for."""

    def inject(sample: Sample) -> None:
        folder = Settings().recovery_dir
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / f"mend-{sample.mark}.sh"
        script.write_text(f"#!/bin/sh\n{words}\n")
        script.chmod(0o755)
        open_stores().patterns.put(
            Pattern(
                name=f"asked {sample.mark}",
                regex=f"asked by {sample.mark}",
                category=Category.VOLUME_MOUNT,
                severity=Severity.HIGH,
                strategy=Strategy.RUN_SCRIPT,
                priority=100,
                shipped=False,
                recovery_script=script.name,
            )
        )
        sample.inside("notes", "sh", "-c", f"echo asked by {sample.mark} >/proc/1/fd/1; touch /tmp/ill; rm /tmp/well")

    return inject


def _restart_the_engine(sample: Sample) -> None:
    sample.own_engine.stop()
    sample.own_engine.start()


def _kill_the_engine(sample: Sample) -> None:
    sample.own_engine.kill()
    sample.own_engine.start()


def _let_the_engine_hang(sample: Sample) -> None:
    sample.own_engine.freeze()
    time.sleep(_ENGINE_HANGS_SECONDS)
    sample.own_engine.thaw()


def _recorded(sample: Sample) -> bool:
    return bool(open_stores().errors.latest(sample.name))


def _tried(sample: Sample) -> bool:
    return bool(tries_of(sample))


def _step(name: str, *, done: bool) -> Callable[[Sample], bool]:
    def is_there(sample: Sample) -> bool:
        steps = [step for one in tries_of(sample) for step in one.steps if step.name == name]
        return any(step.ok if done else True for step in steps)

    return is_there


def _left_to_a_person(name: str, inject: Callable[[Sample], object]) -> Harm:
    """A state of Redis that only a person can mend."""
    return Harm(
        name=name,
        inject=inject,
        service="redis",
        end=End.TICKET,
        categories=(Category.REDIS_STATE,),
        strategies=(),
        down=("redis", "bot"),
    )


HARMS = (
    Harm(
        name="bot killed",
        inject=kill("bot"),
        # Its own health check may have been refused while it started.
        categories=(Category.CONTAINER_EXITED, Category.DEPENDENCY_REFUSED),
    ),
    Harm(name="redis killed", inject=kill("redis"), service="redis", categories=(Category.CONTAINER_EXITED,)),
    Harm(name="prometheus killed", inject=kill("prometheus"), service="prometheus"),
    Harm(
        name="bot paused",
        inject=docker("pause", service="bot"),
        end=End.TICKET,
        strategies=(),
        down=("bot",),
    ),
    Harm(
        name="redis paused",
        inject=docker("pause", service="redis"),
        service="redis",
        end=End.TICKET,
        strategies=(),
        down=("redis", "bot"),
    ),
    Harm(
        name="prometheus paused",
        inject=docker("pause", service="prometheus"),
        service="prometheus",
        end=End.TICKET,
        strategies=(),
        down=("prometheus",),
    ),
    Harm(name="bot hangs", inject=fail("bot", "hang"), categories=_NO_ANSWER, strategies=_RESTARTS),
    Harm(name="bot answers too late", inject=fail("bot", "slow"), categories=_NO_ANSWER, strategies=_RESTARTS),
    Harm(
        name="bot stands still",
        inject=docker("kill", "--signal", "STOP", service="bot"),
        categories=_NO_ANSWER,
        strategies=_RESTARTS,
    ),
    Harm(
        name="redis hangs",
        inject=fail("redis", "hang"),
        service="redis",
        categories=_NO_ANSWER,
        strategies=_RESTARTS,
    ),
    Harm(
        name="prometheus hangs",
        inject=docker("kill", "--signal", "STOP", service="prometheus"),
        service="prometheus",
        categories=_NO_ANSWER,
        strategies=_RESTARTS,
    ),
    Harm(name="bot out of memory", inject=fail("bot", "leak"), categories=(Category.OOM_KILLED,)),
    Harm(
        name="bot crashes once",
        inject=fail("bot", "exit"),
        # Its log names an exception of its own where it comes out in time.
        categories=(Category.CONTAINER_EXITED, Category.APPLICATION_ERROR),
    ),
    Harm(
        name="bot lost its gateway",
        inject=fail("bot", "disconnected"),
        categories=(Category.DISCORD_API,),
        # It is given the time to come back by itself first.
        strategies=_RESTARTS,
    ),
    Harm(name="bot flaps", inject=fail("bot", "flapping")),
    Harm(
        name="bot has too many processes",
        inject=_too_many_processes,
        end=End.TICKET,
        categories=(Category.RESOURCE_LIMIT,),
        strategies=(),
        down=("bot",),
    ),
    Harm(
        name="bot ends with 0 and nobody restarts it",
        inject=lambda sample: sample.inside("bot", "sh", "-c", "kill -TERM 1"),
        changes={"bot": {"restart": "no"}},
        categories=(Category.CONTAINER_EXITED, Category.DEPENDENCY_REFUSED),
    ),
    Harm(
        name="bot stopped by a person",
        inject=docker("stop", service="bot"),
        end=End.LEFT,
    ),
    Harm(
        name="bot removed by hand",
        inject=docker("rm", "--force", service="bot"),
        end=End.TICKET,
        strategies=(),
        down=("bot",),
    ),
    Harm(
        name="three killed at once",
        inject=lambda sample: sample.docker(
            "kill", *(sample.container(name) for name in ("bot", "prometheus", "notes"))
        ),
        changes={"notes": _NOTES},
        service=None,
        end=End.TICKET,
        strategies=(),
        down=("bot", "prometheus"),
    ),
    Harm(name="network of bot cut", inject=_cut_from_network, strategies=_RESTARTS),
    Harm(
        name="bot disconnected from its network",
        inject=lambda sample: sample.docker(
            "network", "disconnect", "--force", f"{sample.project}_default", sample.container("bot")
        ),
        strategies=(*_RESTARTS, Strategy.RECREATE_CONTAINER, Strategy.CREATE_NETWORK),
    ),
    Harm(
        name="names not resolved in bot",
        inject=_break_names,
        strategies=_RESTARTS,
        categories=(Category.DNS_FAILURE, Category.DEPENDENCY_REFUSED),
    ),
    Harm(
        name="port taken by a process",
        inject=lambda _sample: None,
        meanwhile=contextmanager(_port_is_taken),
        unwatched=True,
        end=End.TICKET,
        categories=(Category.PORT_CONFLICT, Category.CONTAINER_EXITED),
        strategies=(Strategy.RESTART_SERVICE, Strategy.FREE_PORT),
        down=("bot",),
    ),
    Harm(
        name="port taken by a left-over of the project",
        inject=lambda _sample: None,
        meanwhile=_port_of_a_left_over,
        unwatched=True,
        strategies=(Strategy.RESTART_SERVICE, Strategy.FREE_PORT),
    ),
    Harm(
        name="port taken by another project",
        inject=lambda _sample: None,
        meanwhile=_port_of_a_stranger,
        unwatched=True,
        end=End.TICKET,
        categories=(Category.PORT_CONFLICT, Category.CONTAINER_EXITED),
        strategies=(Strategy.RESTART_SERVICE, Strategy.FREE_PORT),
        down=("bot",),
    ),
    Harm(
        name="redis refuses writes (MISCONF)",
        inject=fail("redis", "misconf"),
        service="redis",
        end=End.TICKET,
        categories=(Category.REDIS_STATE, Category.VOLUME_MOUNT, Category.DISK_FULL),
        strategies=(),
        down=("redis", "bot"),
    ),
    _left_to_a_person("redis wants another password (NOAUTH)", fail("redis", "noauth")),
    Harm(
        name="redis loads its data (LOADING)",
        inject=_load_for_long,
        service="redis",
        strategies=(Strategy.WAIT_AND_RETRY,),
        categories=(Category.REDIS_STATE,),
    ),
    _left_to_a_person("redis is a replica of nothing", fail("redis", "readonly")),
    _left_to_a_person("redis has no memory left", fail("redis", "oom")),
    Harm(
        name="redis loops over spoilt data",
        inject=_spoil_the_data,
        service="redis",
        end=End.TICKET,
        # Nothing but its log tells of the data, and the log says so only once it has been started again.
        categories=(Category.REDIS_STATE,),
        strategies=(Strategy.RESTART_SERVICE,),
        down=("redis", "bot"),
    ),
    Harm(
        name="disk of redis full",
        inject=_fill_the_volume,
        service="redis",
        end=End.TICKET,
        changes={
            "volumes": {
                "redis-data": {"driver": "local", "driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=8m"}}
            },
            # Memory stays occupied only while a process holds it.
            "holder": {
                "image": IMAGE,
                "init": True,
                "command": ["sleep", "infinity"],
                "volumes": ["redis-data:/data"],
            },
        },
        categories=(Category.DISK_FULL, Category.REDIS_STATE),
        strategies=(Strategy.PRUNE_DISK,),
        down=("redis", "bot"),
    ),
    Harm(
        name="volume of redis read-only",
        inject=_volume_read_only,
        service="redis",
        end=End.TICKET,
        categories=(Category.REDIS_STATE, Category.VOLUME_MOUNT),
        strategies=(),
        down=("redis", "bot"),
    ),
    Harm(
        name="root of a service read-only",
        inject=_root_read_only,
        service="notes",
        end=End.TICKET,
        changes={"notes": _NOTES},
        categories=(Category.VOLUME_MOUNT,),
        strategies=(),
    ),
    Harm(name="image of bot gone", inject=_image_gone),
    Harm(
        name="bad release",
        inject=lambda _sample: None,
        release={"bot": {"environment": {"FAIL_BOT": "exit-later"}}},
        strategies=(Strategy.RESTART_SERVICE, Strategy.ROLL_BACK_RELEASE),
        replaced=("redis", "migrate", "prometheus"),
    ),
    Harm(
        name="script that changes nothing",
        inject=_script("exit 0"),
        service="notes",
        end=End.TICKET,
        changes={"notes": _NOTES | {"restart": "no"}},
        strategies=(Strategy.RUN_SCRIPT,),
    ),
    Harm(
        name="script that fails",
        inject=_script("echo no; exit 4"),
        service="notes",
        end=End.TICKET,
        changes={"notes": _NOTES},
        strategies=(Strategy.RUN_SCRIPT,),
    ),
    Harm(
        name="engine restarted",
        inject=_restart_the_engine,
        own_engine=True,
        end=End.BACK,
        strategies=_RESTARTS,
        replaced=SERVICES,
    ),
    Harm(
        name="engine killed",
        inject=_kill_the_engine,
        own_engine=True,
        # What ran on while it was away it stops when it begins again, and leaves it so.
        service="redis",
        categories=(Category.CONTAINER_EXITED, Category.DEPENDENCY_REFUSED),
        strategies=_RESTARTS,
        replaced=SERVICES,
    ),
    Harm(
        name="engine stands still for a while",
        inject=_let_the_engine_hang,
        own_engine=True,
        end=End.BACK,
        strategies=(),
    ),
    Harm(name="bot killed while nobody watched", inject=kill("bot"), unwatched=True),
    Harm(
        name="runner killed once the error is recorded",
        inject=kill("bot"),
        killed_at=_recorded,
        strategies=_RESTARTS,
    ),
    Harm(
        name="runner killed once the attempt is recorded",
        inject=kill("bot"),
        killed_at=_tried,
        strategies=_RESTARTS,
    ),
    Harm(
        name="runner killed in the middle of a restart",
        inject=kill("bot"),
        killed_at=_step("restart", done=False),
        strategies=_RESTARTS,
    ),
    Harm(
        name="runner killed after the restart",
        inject=kill("bot"),
        killed_at=_step("restart", done=True),
        strategies=_RESTARTS,
    ),
    Harm(
        name="runner killed while it verifies",
        inject=kill("bot"),
        killed_at=_step("verify", done=False),
        strategies=_RESTARTS,
    ),
)
