#!/usr/bin/env bash
# Builds the gallery's image, unless one of the same content is there.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=deployments/setup/lib.sh
. "$here/../../../../deployments/setup/lib.sh"

main() {
    local base tag
    # Workers and set-up that ask for it at once wait for one build.
    exec 9<"${BASH_SOURCE[0]}"
    flock 9
    base="$(docker image inspect --format '{{.Id}}' roas/base:local)" ||
        die "roas/base:local is missing" "Run deployments/setup/images.sh first."
    tag="$(echo "$base $(cd "$here" && content_hash Dockerfile bin)" | sha256sum | cut -c 1-16)"
    if ! docker image inspect "roas/gallery:$tag" >/dev/null 2>&1; then
        say "Building roas/gallery:local (some minutes)"
        quietly docker build --progress plain --tag "roas/gallery:$tag" "$here" ||
            die "roas/gallery:local could not be built" "The last lines of the build are above."
    fi
    docker tag "roas/gallery:$tag" roas/gallery:local
}

main
