# Find, install and start the Docker engine, Compose and buildx.
# shellcheck shell=bash

# Older Compose lacks features that are used here: `depends_on.restart`, `create --no-recreate` per service, secrets.
readonly OLDEST_COMPOSE=2.20
readonly ENGINE_LOG=/var/log/dockerd.log

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Set-up neither installs nor starts an engine on another machine.
engine_is_remote() { [ -n "${DOCKER_HOST:-}" ]; }

# Print one line for each missing part.
engine_missing() {
    have docker || echo "Docker command line"
    have dockerd || engine_is_remote || engine_answers || echo "Docker engine"
    at_least "$OLDEST_COMPOSE" "$(docker compose version --short 2>/dev/null || echo 0)" ||
        echo "Docker Compose $OLDEST_COMPOSE or newer"
    docker buildx version >/dev/null 2>&1 || echo "Docker buildx"
}

# Package names differ: Debian docker-cli, docker-compose, docker-buildx; Ubuntu docker-compose-v2;
# Docker's own packages docker-ce, docker-compose-plugin, docker-buildx-plugin.
engine_install() {
    _use_newer_debian_where_needed
    local wanted=()
    have dockerd || engine_is_remote || wanted+=("$(_first_of 0 docker.io docker-ce)" iptables)
    if ! have docker; then
        # Before Debian 13 and on Ubuntu the command line is part of docker.io.
        [ -z "$(apt_candidate docker-cli)" ] || wanted+=(docker-cli)
    fi
    at_least "$OLDEST_COMPOSE" "$(docker compose version --short 2>/dev/null || echo 0)" ||
        wanted+=("$(_first_of "$OLDEST_COMPOSE" docker-compose-v2 docker-compose-plugin docker-compose)")
    docker buildx version >/dev/null 2>&1 ||
        wanted+=("$(_first_of 0 docker-buildx docker-buildx-plugin)")
    apt_install "${wanted[@]}"
}

# Start the engine until it answers this user, or fail with the reason.
engine_start() {
    if ! engine_answers; then
        engine_is_remote && die "the Docker engine at $DOCKER_HOST does not answer" \
            "Start it, or unset DOCKER_HOST to use this machine's own."
        _let_this_user_in
    fi
    if ! engine_answers; then
        say "Starting the Docker engine"
        if systemd_runs; then
            as_root systemctl enable --now --quiet docker
        else
            # Its own session, or it would end with this terminal.
            as_root setsid -f sh -c "exec dockerd --log-level warn >>$ENGINE_LOG 2>&1 </dev/null"
        fi
        _await_engine
        _let_this_user_in
    fi
    engine_answers || die "the Docker engine runs, but not for $(id -un)" \
        "Log out and in again, so that the group 'docker' is yours; then run this again."
}

_await_engine() {
    local tries
    for tries in $(seq 150); do
        [ "$tries" -gt 1 ] && sleep 0.2
        as_root docker version >/dev/null 2>&1 && return
    done
    [ -r "$ENGINE_LOG" ] && tail -n 5 "$ENGINE_LOG" >&2
    die "the Docker engine did not answer within 30 s" \
        "See $ENGINE_LOG or 'journalctl -u docker'; a container without privileges cannot run one."
}

# Group membership takes effect at the next login, the access list of the socket at once.
_let_this_user_in() {
    if [ "$(id -u)" -eq 0 ] || [ ! -S /var/run/docker.sock ] || engine_answers; then
        return 0
    fi
    say "Giving $(id -un) access to the Docker engine (a user with this access has the power of root)"
    as_root usermod -aG docker "$(id -un)"
    have setfacl || apt_install acl
    as_root setfacl -m "u:$(id -un):rw" /var/run/docker.sock
}

# _first_of VERSION NAME ...: print the first of these packages that is offered in this version or a newer one.
_first_of() {
    local oldest="$1" name version
    for name in "${@:2}"; do
        version="$(apt_candidate "$name")"
        if [ -n "$version" ] && at_least "$oldest" "$version"; then
            echo "$name"
            return
        fi
    done
    die "no package of these names is offered in version $oldest or newer: ${*:2}" \
        "On Ubuntu enable 'universe'; elsewhere add Docker's own package source, then run this again."
}

# Debian 12 stops at Compose 1 and an engine of 2022. The next release's Docker runs on it unchanged,
# so those packages, and only those, come from there, from the mirror this machine already uses.
_use_newer_debian_where_needed() {
    local codename mirror
    # shellcheck source=/dev/null
    codename="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
    [ "$codename" = bookworm ] || return 0
    [ -z "$(apt_candidate docker-compose-plugin)" ] || return 0
    # shellcheck disable=SC2016  # apt's own placeholders
    mirror="$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "bookworm" { print $2; exit }')"
    say "Adding Debian 13 as a source for Docker's packages alone"
    as_root tee /etc/apt/sources.list.d/roas-docker.sources >/dev/null <<END
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
    as_root tee /etc/apt/preferences.d/roas-docker >/dev/null <<'END'
Package: *
Pin: release n=trixie
Pin-Priority: -1

Package: docker.io docker-cli docker-compose docker-buildx containerd
Pin: release n=trixie
Pin-Priority: 600
END
    apt_update
}
