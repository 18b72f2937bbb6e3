# Functions shared by the set-up scripts; sourced, never run.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the names below are used by those who source this

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
TOOLS="$ROOT/.tools"
VENV="$ROOT/.venv"
# The retries and time limits of every apt-get and mmdebstrap, the same as in image builds.
export APT_CONFIG="$ROOT/deployments/images/base/apt.conf"

say() { printf '==> %s\n' "$*"; }

# Exit with an error and advice: one line each.
die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '       %s\n' "${@:2}" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this step needs root: $*" "Run as root, or install sudo."
    fi
}

# True where systemd is the running init; elsewhere this script starts the daemon.
systemd_runs() { [ -d /run/systemd/system ]; }

apt_update() {
    have apt-get || die "this machine has no apt-get" \
        "Set-up knows Debian 12 and 13 and Ubuntu 22.04 and 24.04." \
        "Elsewhere install Docker with Compose 2.20 or newer and Python 3.11-3.13, then run it again."
    say "Refreshing the package lists"
    quietly as_root env APT_CONFIG="$APT_CONFIG" DEBIAN_FRONTEND=noninteractive apt-get -qq update ||
        die "apt-get update failed" "Its last lines are above; check the network and the package sources."
}

apt_install() {
    say "Installing packages: $*"
    quietly as_root env APT_CONFIG="$APT_CONFIG" DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold install -y --no-install-recommends "$@" ||
        die "apt-get could not install: $*" "Its last lines are above."
}

# Run a command and show its last lines only if it fails.
quietly() {
    local log
    log="$(mktemp)"
    if ! "$@" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        rm "$log"
        return 1
    fi
    rm "$log"
}

# Print the candidate version of a package, without epoch and revision, or nothing.
apt_candidate() {
    apt-cache policy "$1" 2>/dev/null |
        awk '$1 == "Candidate:" && $2 != "(none)" { sub(/^[0-9]+:/, "", $2); print $2 }'
}

# at_least 2.20 2.26.1-4: true when the second version is the first or newer.
at_least() { [ "$(printf '%s\n%s\n' "$1" "${2#v}" | sort -V | head -n 1)" = "$1" ]; }

# Print one hash of the names and contents of files and folders.
content_hash() {
    find "$@" -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
}
