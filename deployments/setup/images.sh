#!/usr/bin/env bash
# Builds the sample application's images that are missing or whose files have changed, and their base.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
# shellcheck source=deployments/setup/base_image.sh
. "$here/base_image.sh"

# The base first: the others start from it.
readonly IMAGES=(base sample-bot redis prometheus)

main() {
    local name tag kept=() built=()
    ensure_base_image
    for name in "${IMAGES[@]}"; do
        tag="$(tag_of "$name")"
        if is_current "$name" "$tag"; then
            kept+=("$name")
        else
            build "$name" "$tag"
            built+=("$name")
        fi
    done
    say "Images: built ${#built[@]}${built[*]:+ (${built[*]})}, kept ${#kept[@]}${kept[*]:+ (${kept[*]})}"
}

# Beside `local`, an image is tagged with the hash of what it was built from. A label would do too, but it would
# make another image of the one that Compose builds from the same files, and so recreate running containers.
tag_of() { echo "$(base_image_id) $(cd "$ROOT/deployments/images" && content_hash base "$1")" | sha256sum | cut -c 1-16; }

is_current() {
    local ids
    ids="$(docker image inspect --format '{{.Id}}' "roas/$1:local" "roas/$1:$2" 2>/dev/null | sort -u)" &&
        [ "$(wc -l <<<"$ids")" -eq 1 ]
}

build() {
    say "Building roas/$1:local"
    quietly docker build --progress plain --tag "roas/$1:local" --tag "roas/$1:$2" "$ROOT/deployments/images/$1" ||
        die "roas/$1:local could not be built" "The last lines of the build are above."
    local tag
    for tag in $(docker image ls --format '{{.Tag}}' "roas/$1"); do
        case "$tag" in
            local | "$2") ;;
            # One that a container still uses cannot be removed; the next build tries again.
            *) docker image rm "roas/$1:$tag" >/dev/null 2>&1 || true ;;
        esac
    done
}

main
