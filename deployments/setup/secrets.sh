# Generate the passwords of this checkout once; never show them.
# shellcheck shell=bash

readonly SECRETS="$ROOT/.secrets"

# The folder keeps other users out. The files in it must stay readable: mounted into a container they
# keep their owner and mode, and services there do not run as root.
make_secrets() {
    mkdir -p "$SECRETS"
    chmod 0700 "$SECRETS"
    local name
    for name in sample_redis_password postgres_password messaging_password cache_password grafana_password \
        stores_password; do
        _make_once "$name" _random_password
    done
    _make_once prefect_auth _random_login
    _make_once prefect_encryption_key _random_fernet_key
}

_make_once() {
    local file="$SECRETS/$1"
    [ -s "$file" ] && return
    # Written to another file first: an interrupted run leaves no partial password.
    "$2" >"$file.new"
    chmod 0444 "$file.new"
    mv "$file.new" "$file"
}

_random_password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

_random_login() { printf 'roas:%s' "$(_random_password)"; }

# 32 bytes in the URL-safe base64 that Fernet takes.
_random_fernet_key() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }
