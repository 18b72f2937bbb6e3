#!/bin/sh
# Install ROAS Ops on this machine and enrol it at a control plane, which serves this file and the program:
#   curl -fsS SERVER/roas/install | sh -s -- SERVER TOKEN [options of roas join]
# With SERVER alone it renews the program of a host that is enrolled. Packages come from the index that pip is configured
# with here.
set -eu

die() {
    echo "install: $1" >&2
    echo "  $2" >&2
    exit 1
}

fetch() {
    # The same authority as the program: a private certificate is named by this variable.
    if [ -n "${PREFECT_API_SSL_CERT_FILE:-}" ]; then
        curl --fail --silent --show-error --cacert "$PREFECT_API_SSL_CERT_FILE" --output "$2" "$1"
    else
        curl --fail --silent --show-error --output "$2" "$1"
    fi || die "$1 cannot be fetched." "Is the address that of the control plane, and reachable from here?"
}

# The whole file is read before anything is done: a download that breaks off does nothing.
main() {
    [ $# -ge 1 ] || die "SERVER and TOKEN are missing." "Paste the whole line that 'roas fleet invite' printed."
    server="${1%/}"
    shift
    docker compose version >/dev/null 2>&1 ||
        die "Docker with Compose is not installed." "Install both, as on Debian: apt-get install docker.io docker-cli docker-compose"
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        die "Python 3.11 or newer with venv is not installed." "On Debian: apt-get install python3-venv"
    if [ "$(id -u)" -eq 0 ]; then
        place=/opt/roas commands=/usr/local/bin
    else
        place="$HOME/.local/share/roas-program" commands="$HOME/.local/bin"
    fi
    folder="$(mktemp -d)"
    trap 'rm -rf "$folder"' EXIT
    fetch "$server/roas/install/requirements.txt" "$folder/requirements.txt"
    fetch "$server/roas/install/wheel" "$folder/name"
    wheel="$(cat "$folder/name")"
    case "$wheel" in
        */* | "" | -*) die "The control plane names no wheel." "Install the program by hand: docs/how-to/run-many-hosts.md" ;;
    esac
    fetch "$server/roas/install/$wheel" "$folder/$wheel"
    echo "installing ROAS Ops in $place"
    python3 -m venv "$place"
    # Exactly the versions that the project was tested with, each checked by its hash.
    "$place/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$folder/requirements.txt"
    "$place/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall "$folder/$wheel"
    mkdir -p "$commands"
    ln -sf "$place/bin/roas" "$commands/roas"
    if [ $# -gt 0 ]; then
        "$place/bin/roas" join "$server" "$@"
    else
        echo "installed $("$place/bin/roas" --version); restart the agent: systemctl restart roas-worker"
    fi
    case ":$PATH:" in
        *":$commands:"*) ;;
        *) echo "the command is $commands/roas, which is not in PATH yet" ;;
    esac
}

main "$@"
