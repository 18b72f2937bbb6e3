#!/usr/bin/env bash
# Install the missing parts and start the Docker engine: afterwards .venv/bin/roas runs. --tools: also what works on the
# code, such as formatters, type checks and documentation. --tests: also the programs that only tests need.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
# shellcheck source=deployments/setup/engine.sh
. "$here/engine.sh"
# shellcheck source=deployments/setup/python.sh
. "$here/python.sh"
# shellcheck source=deployments/setup/secrets.sh
. "$here/secrets.sh"

main() {
    local for_tests="" engine python tests=""
    case "${1:-}" in
        --tests) for_tests=yes ;&
        --tools) WITH_TOOLS=yes ;;
    esac
    engine="$(engine_missing)"
    python="$(python_missing)"
    [ -z "$for_tests" ] || tests="$(tests_missing)"

    if [ -n "$engine$python$tests" ]; then
        say "Set-up installs these missing parts:"
        printf '%s\n' "$engine" "$python" "$(cut -d ' ' -f 2- <<<"$tests")" | sed '/^$/d; s/^/      - /'
        install_all
    fi
    engine_start
    make_secrets
    say "Set-up is complete: Docker $(docker version --format '{{.Server.Version}}')," \
        "Compose $(docker compose version --short), $("$VENV/bin/python" --version)"
}

# All packages at once: refreshing the lists is the slow part. What needs none of them is installed meanwhile.
install_all() {
    local packages beside=""
    if [[ "$python" != *Python* ]]; then
        python_install &
        beside=$!
        # shellcheck disable=SC2064  # this process
        trap "kill $beside 2>/dev/null || true" EXIT
    fi
    if [ -n "$engine$tests" ] || [[ "$python" == *Python* ]]; then
        apt_update
        [ -z "$engine" ] || engine_install
        packages="$(python_packages)"
        # Asked again: the lists that have just been refreshed decide about names.
        [ -z "$tests" ] || packages+=" $(tests_missing | cut -d ' ' -f 1)"
        # shellcheck disable=SC2086  # a list of names
        [ -z "${packages//[[:space:]]/}" ] || install_unstarted $packages
    fi
    if [ -z "$beside" ]; then python_install; else wait "$beside"; fi
    trap - EXIT
}

# Debian keeps its programs out of the PATH, a folder for each version.
have_postgresql() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# Ubuntu knows it by the other name.
chromium_package() {
    if [ -n "$(apt_candidate chromium)" ]; then echo chromium; else echo chromium-browser; fi
}

# The missing parts that only tests need: a package and its name for users.
tests_missing() {
    have redis-server || echo "redis-server Redis server (for the tests; not started)"
    have_postgresql || echo "postgresql PostgreSQL server (for the tests; not started)"
    have promtool || echo "prometheus Prometheus tools (for the tests; not started)"
    have amtool || echo "prometheus-alertmanager Alertmanager (for the tests; not started)"
    have docker-registry || echo "docker-registry Registry of images (for the tests; not started)"
    have restic || echo "restic restic (for the tests)"
    have git || echo "git git (for the tests)"
    have gpg || echo "gpg GPG (for the tests)"
    [ -x /usr/sbin/sshd ] || echo "openssh-server ssh server (for the tests; not started)"
    have ip || echo "iproute2 iproute2 (for the tests)"
    have shellcheck || echo "shellcheck shellcheck (for the tests)"
    have mandoc || echo "mandoc mandoc (for the tests)"
    have faketime || echo "faketime faketime (for the tests)"
    have strace || echo "strace strace (for the tests)"
    have chromium || have chromium-browser || echo "$(chromium_package) Chromium (for the tests)"
}

# Debian starts the services that it installs. None of these shall run as a service of the machine.
install_unstarted() {
    local policy=/usr/sbin/policy-rc.d ours="" name
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 0755 "$policy"
    fi
    if [[ " $* " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common ]; then
        # Its package creates a cluster of the machine unless this file says otherwise.
        as_root mkdir /etc/postgresql-common
        echo "create_main_cluster = false" | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    apt_install "$@"
    [ -z "$ours" ] || as_root rm "$policy"
    systemd_runs || return 0
    for name in redis-server prometheus prometheus-alertmanager postgresql docker-registry; do
        [[ " $* " != *" $name "* ]] || as_root systemctl disable --quiet "$name"
    done
    [[ " $* " != *" openssh-server "* ]] || as_root systemctl disable --quiet ssh
}

main "$@"
