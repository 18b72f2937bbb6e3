#!/usr/bin/env bash
# release.sh VERSION: run every test and campaign, build and tag a release. It pushes nothing.
#
# dist/ then holds wheel, source archive, SBOM and SHA256SUMS. The same tag builds the same bytes. Where a step fails,
# CHANGELOG.md and pyproject.toml are as before, and there is neither commit nor tag.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=deployments/setup/lib.sh
. "$here/lib.sh"
cd "$ROOT"

version="${1:-}"
tag="v$version"
today="$(date -u +%F)"
dist="$ROOT/dist"

main() {
    check_first
    trap undo EXIT
    write_version
    "$here/build_release.sh" "$version"
    git commit --quiet --all --message "Release $version"
    git tag --annotate "$tag" --message "ROAS Ops $version"
    trap - EXIT
    say "Release $version: tag $tag, files in dist/"
    (cd "$dist" && ls -l --block-size=K)
}

undo() {
    git checkout --quiet -- CHANGELOG.md pyproject.toml
}

check_first() {
    [[ "$version" =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "give a version such as 0.2.0, not '$version'"
    [ ! -e man ] || die "man/ is there, and would be part of this build alone" "Remove it: rm -r man"
    [ -z "$(git status --porcelain)" ] ||
        die "the working tree has changes" "Commit or stash them: a release is built from a commit."
    ! git rev-parse --quiet --verify "refs/tags/$tag" >/dev/null || die "the tag $tag exists already"
    grep -q "^## \[$version\]" CHANGELOG.md && die "CHANGELOG.md has a section $version already"
    [ "$(unreleased | grep -c '^- ')" -gt 0 ] || die "CHANGELOG.md lists no change under Unreleased"
    "$here/setup.sh" --tests
    "$here/images.sh"
    "$here/test.sh" --all || die "a release needs every test and campaign green"
}

# The section Unreleased of the changelog.
unreleased() { awk '/^## \[Unreleased\]/ { inside = 1; next } /^## / { inside = 0 } inside' CHANGELOG.md; }

write_version() {
    sed -i "s/^## \[Unreleased\]$/&\n\n## [$version] - $today/" CHANGELOG.md
    sed -i "s/^version = \".*\"$/version = \"$version\"/" pyproject.toml
}

main
