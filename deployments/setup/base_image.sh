# The image that all others start from: the official one where a registry is reachable, else the same built here.
# shellcheck shell=bash

readonly BASE=debian:trixie-slim
# A tag can be moved, a digest cannot. The first pull writes down the digest that it got, and from then on that one is
# pulled: trust on first use. Commit the file to pin it for everybody, delete it to move on, or set ROAS_BASE_DIGEST.
readonly BASE_DIGEST_FILE="${BASE_DIGEST_FILE:-$ROOT/deployments/images/base.digest}"

base_image_id() { docker image inspect --format '{{.Id}}' "$BASE"; }

wanted_digest() {
    local digest="${ROAS_BASE_DIGEST:-}"
    [ -n "$digest" ] || [ ! -s "$BASE_DIGEST_FILE" ] || digest="$(cat "$BASE_DIGEST_FILE")"
    [[ "$digest" =~ ^(sha256:[0-9a-f]{64})?$ ]] ||
        die "the digest of the base image is not valid: $digest" "It must be sha256: and 64 hexadecimal digits."
    echo "$digest"
}

# The digests by which a registry knows the local image; none where it was built here.
pulled_digests() { docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$BASE" | cut -sd @ -f 2; }

ensure_base_image() {
    local wanted here wanted_name="$BASE"
    wanted="$(wanted_digest)"
    [ -z "$wanted" ] || wanted_name="${BASE%:*}@$wanted"
    if base_image_id >/dev/null 2>&1; then
        here="$(pulled_digests)"
        # An image that was built here comes from Debian's signed packages and has no digest to compare.
        [ -n "$wanted" ] && [ -n "$here" ] && ! grep -qx "$wanted" <<<"$here" || return 0
        say "The base image $BASE has another digest than the configured one"
    fi
    say "Pulling the base image $wanted_name"
    # Long enough for a slow line; a registry that cannot be reached says so at once.
    if timeout 120 docker pull --quiet "$wanted_name" >/dev/null 2>&1; then
        [ -z "$wanted" ] || docker tag "$wanted_name" "$BASE"
        [ -n "$wanted" ] || pulled_digests | head -n 1 >"$BASE_DIGEST_FILE"
        return
    fi
    [ -z "${here:-}" ] || die "$wanted_name could not be pulled, and the local image has another digest" \
        "Remove it with 'docker image rm $BASE', or name its digest: $(head -n 1 <<<"$here")."
    say "No image registry answers: building $BASE from Debian's packages (about 20 s)"
    have mmdebstrap || install_mmdebstrap
    local log
    log="$(mktemp)"
    # With the machine's own package sources, so that it also works behind a mirror.
    if ! as_root mmdebstrap --quiet --variant=minbase --aptopt="$APT_CONFIG" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        trixie - 2>"$log" | docker import --change 'CMD ["bash"]' - "$BASE" >/dev/null; then
        tail -n 10 "$log" >&2
        die "$BASE could be neither pulled nor built" "The last lines of mmdebstrap are above."
    fi
    rm "$log"
}

install_mmdebstrap() {
    apt_update
    # The keyring is there on Debian, not on Ubuntu.
    apt_install mmdebstrap debian-archive-keyring
}
