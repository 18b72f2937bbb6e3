"""Name the cause of an error in words, and say what it means for a reader who sees it for the first time."""

from __future__ import annotations

from models.errors import Category

WORDS: dict[Category, tuple[str, str]] = {
    Category.DOCKER_DAEMON_UNREACHABLE: (
        "the Docker engine does not answer",
        "No container of this host can be started, stopped or inspected until the engine runs again.",
    ),
    Category.DOCKER_PERMISSION_DENIED: (
        "no permission to use Docker",
        "The user who runs this may not open the engine's socket.",
    ),
    Category.IMAGE_PULL_FAILED: (
        "an image could not be pulled",
        "The image's name or tag is wrong, or its registry refused it or could not be reached.",
    ),
    Category.PORT_CONFLICT: (
        "a port is already in use",
        "Another program or container listens on a port that the service publishes, so the service cannot start.",
    ),
    Category.NAME_CONFLICT: (
        "a container of this name exists already",
        "Another container has the name that the service's container needs.",
    ),
    Category.DOCKER_NETWORK: (
        "a Docker network failed",
        "A network of the application is missing or could not be created, so its containers cannot be connected.",
    ),
    Category.VOLUME_MOUNT: (
        "a file or folder is missing or may not be used",
        "A file, folder or volume that it needs is missing, has the wrong kind, or may not be read or written by it.",
    ),
    Category.COMPOSE_INVALID: (
        "the Compose file is not valid",
        "Docker Compose cannot read the file as it is, so nothing was started.",
    ),
    Category.MISSING_ENV_SECRET: (
        "a variable or secret is missing",
        "The program needs a variable or secret that is not set or is empty.",
    ),
    Category.CONTAINER_EXITED: ("its container exited", "The program ended by itself, and its log does not say why."),
    Category.OOM_KILLED: (
        "killed for using too much memory",
        "The kernel ended the program because it used more memory than its limit or the host allows.",
    ),
    Category.HEALTHCHECK_FAILED: (
        "its health check fails",
        "The container runs, but the program in it does not answer as it should.",
    ),
    Category.DEPENDENCY_FAILED_START: (
        "a dependency did not start",
        "A service that this one depends on did not start, so this one was not started either.",
    ),
    Category.DEPENDENCY_REFUSED: (
        "a dependency refused the connection",
        "A service that this one depends on is down or does not accept connections.",
    ),
    Category.DNS_FAILURE: ("a host name was not found", "The name of a server could not be resolved to an address."),
    Category.TIMEOUT: ("it took too long", "An answer or a start did not come within its time limit."),
    Category.TLS_CERTIFICATE: (
        "a TLS certificate was refused",
        "A certificate has expired, is not trusted, or is for another name.",
    ),
    Category.DISK_FULL: ("the disk is full", "Nothing more can be written; databases may stop or lose data."),
    Category.RESOURCE_LIMIT: (
        "a resource limit was reached",
        "The program reached a limit of the host or its container, such as open files or processes.",
    ),
    Category.PERFORMANCE_THRESHOLD: (
        "a performance limit was exceeded",
        "A measured value, such as CPU, memory or response time, is worse than its limit.",
    ),
    Category.EXEC_FORMAT_ENTRYPOINT: (
        "its command cannot be run",
        "The image was built for another processor, or its command is missing or cannot be executed.",
    ),
    Category.DATABASE_LOCKED: (
        "a database is locked",
        "Another process holds a lock on the database for longer than the program waits.",
    ),
    Category.DATABASE_CORRUPT: (
        "a database is damaged",
        "The database reports damaged data. Copy its files before anything else is tried.",
    ),
    Category.REDIS_STATE: (
        "Redis refuses to work in its state",
        "Redis answers, but refuses commands because of memory, persistence or replication.",
    ),
    Category.DISCORD_API: ("Discord refused a request", "Discord's API refused a login or limits the bot's requests."),
    Category.PYTHON_IMPORT_CONFIG: (
        "a Python program cannot be loaded",
        "A module is missing, or the program's code or settings cannot be imported.",
    ),
    Category.KERNEL_NETWORK_DRIVER: (
        "the host's network does not work",
        "The kernel of the host lacks a network feature that Docker needs.",
    ),
    Category.SERVICE_CONFIG_INVALID: (
        "its configuration is not valid",
        "The program refuses a setting in its own configuration, so it does not start.",
    ),
    Category.AUTH_FAILED: (
        "a login was refused",
        "The user name or password does not match what the other server expects.",
    ),
    Category.STATE_MISMATCH: (
        "stored data does not fit the program",
        "The data on disk was written by another version or for another program.",
    ),
    Category.SCHEMA_NOT_MIGRATED: (
        "the database schema is not up to date",
        "A table or column is missing; the migrations of this version have not been run.",
    ),
    Category.BUILD_FAILED: ("an image could not be built", "A step of the image's build failed."),
    Category.EXTERNAL_API: (
        "an outside service refused a request",
        "A server outside of this application refuses requests or answers with errors.",
    ),
    Category.HOST_STORAGE_FAILURE: (
        "the host's disk fails",
        "The kernel reports errors when it reads or writes the disk. Data is at risk.",
    ),
    Category.RUNTIME_DEPENDENCY_MISSING: (
        "a library or program is missing in the image",
        "The program needs a file that its image does not contain.",
    ),
    Category.APPLICATION_ERROR: ("the application failed", "The application's own code raised an error."),
    Category.UNKNOWN: ("the cause is not known", "No known pattern matches what the service wrote."),
    Category.BENIGN: ("nothing is wrong", "What was reported is no error."),
}
"""Of each category: words that follow a colon, and a sentence on what it means."""


def ticket_title(category: Category, about: str, reason: str) -> str:
    """Write the title of a ticket: what failed how, the category to search for, and why a person is asked."""
    first = reason.partition(" ")[0]
    # A reason may begin with the name of an action, such as prune_disk, or of what failed.
    sentence = reason if "_" in first or first == about else f"{reason[:1].upper()}{reason[1:]}"
    return f"{about}: {WORDS[category][0]} ({category}). {sentence}"
