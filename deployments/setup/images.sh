#!/usr/bin/env bash
# Builds the sample application's images that are missing or whose files have changed, and their base.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
# shellcheck source=deployments/setup/base_image.sh
. "$here/base_image.sh"

readonly IMAGES=(sample-bot redis prometheus)
# An image carries the hash of what it was built from; the same hash again means nothing to do.
readonly LABEL=org.roas.built-from

main() {
    local name wanted kept=() built=()
    ensure_base_image
    for name in "${IMAGES[@]}"; do
        wanted="$(built_from "$name")"
        if [ "$(label_of "$name")" = "$wanted" ]; then
            kept+=("$name")
        else
            build "$name" "$wanted"
            built+=("$name")
        fi
    done
    say "Images: built ${#built[@]}${built[*]:+ (${built[*]})}, kept ${#kept[@]}${kept[*]:+ (${kept[*]})}"
}

built_from() { echo "$(base_image_id) $(cd "$ROOT/deployments/images" && content_hash "$1")" | sha256sum | cut -d ' ' -f 1; }

label_of() { docker image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "roas/$1:local" 2>/dev/null || true; }

build() {
    say "Building roas/$1:local"
    quietly docker build --progress plain --label "$LABEL=$2" --tag "roas/$1:local" \
        "$ROOT/deployments/images/$1" ||
        die "roas/$1:local could not be built" "The last lines of the build are above."
}

main
