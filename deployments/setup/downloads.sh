# How set-up and image builds retry downloads of Python packages; sourced, never run.
# shellcheck shell=sh

# Seconds without a byte until a download is tried again.
export UV_HTTP_TIMEOUT=30 PIP_DEFAULT_TIMEOUT=30
export UV_HTTP_RETRIES=8 PIP_RETRIES=8

# Runs a command up to four times: pip does not retry a download that was cut off.
retry() {
    for _ in 1 2 3; do
        ! "$@" || return 0
    done
    "$@"
}
