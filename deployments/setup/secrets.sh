# Passwords of this checkout, made once and never shown.
# shellcheck shell=bash

readonly SECRETS="$ROOT/.secrets"

# The folder keeps other users out. The files in it must stay readable: mounted into a container they
# keep their owner and mode, and services there do not run as root.
make_secrets() {
    mkdir -p "$SECRETS"
    chmod 0700 "$SECRETS"
    local name
    for name in sample_redis_password postgres_password redis_password grafana_password; do
        _make_once "$name" ""
    done
    _make_once prefect_auth "roas:"
}

_make_once() {
    local file="$SECRETS/$1"
    [ -s "$file" ] && return
    # Written aside first: an interrupted run leaves no half a password.
    printf '%s%s' "$2" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >"$file.new"
    chmod 0444 "$file.new"
    mv "$file.new" "$file"
}
