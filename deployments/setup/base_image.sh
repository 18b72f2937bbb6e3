# The image all others start from: the official one where a registry is reachable, else the same made here.
# shellcheck shell=bash

readonly BASE=debian:trixie-slim

base_image_id() { docker image inspect --format '{{.Id}}' "$BASE"; }

ensure_base_image() {
    base_image_id >/dev/null 2>&1 && return
    say "Pulling the base image $BASE"
    # Long enough for a slow line; a registry that cannot be reached says so at once.
    if timeout 120 docker pull --quiet "$BASE" >/dev/null 2>&1; then
        return
    fi
    say "No image registry answers: making $BASE from Debian's packages (about 20 s)"
    have mmdebstrap || install_mmdebstrap
    local log
    log="$(mktemp)"
    # With the machine's own package sources, so that it also works behind a mirror.
    if ! as_root mmdebstrap --quiet --variant=minbase \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        trixie - 2>"$log" | docker import --change 'CMD ["bash"]' - "$BASE" >/dev/null; then
        tail -n 10 "$log" >&2
        die "$BASE could be neither pulled nor made" "mmdebstrap's last words are above."
    fi
    rm "$log"
}

install_mmdebstrap() {
    apt_update
    # The keyring is there on Debian, not on Ubuntu.
    apt_install mmdebstrap debian-archive-keyring
}
