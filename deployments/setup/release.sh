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
work="$(mktemp -d)"

main() {
    trap 'rm -rf "$work"' EXIT
    check_first
    trap undo EXIT
    write_version
    build
    check_wheel
    "$here/sbom.sh" "$work/sbom" --pinned-only
    mv "$work/sbom/python.cdx.json" "$dist/roas_ops-$version.cdx.json"
    (cd "$dist" && sha256sum -- *.whl *.tar.gz *.cdx.json >SHA256SUMS)
    git commit --quiet --all --message "Release $version"
    git tag --annotate "$tag" --message "ROAS Ops $version"
    trap 'rm -rf "$work"' EXIT
    say "Release $version: tag $tag, files in dist/"
    (cd "$dist" && ls -l --block-size=K)
}

undo() {
    rm -rf "$work"
    git checkout --quiet -- CHANGELOG.md pyproject.toml
}

check_first() {
    [[ "$version" =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "give a version such as 0.2.0, not '$version'"
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

# Twice, since what differs between two builds cannot be checked by others.
build() {
    local again="$work/again"
    SOURCE_DATE_EPOCH="$(date -u -d "$today" +%s)"
    export SOURCE_DATE_EPOCH
    rm -rf "$dist"
    "$VENV/bin/python" -m hatchling build -d "$dist" >/dev/null
    "$VENV/bin/python" -m hatchling build -d "$again" >/dev/null
    diff <(cd "$dist" && sha256sum ./*) <(cd "$again" && sha256sum ./*) ||
        die "two builds of the same files differ" "The files with different sums are above."
}

# In an environment of its own, with the pinned packages, in an empty folder and home.
check_wheel() {
    local uv="$VENV/bin/uv" home="$work/home" roas="$work/venv/bin/roas" said
    mkdir "$home"
    "$uv" venv --quiet --python "$VENV/bin/python" "$work/venv"
    "$uv" pip install --quiet --python "$work/venv/bin/python" --require-hashes -r requirements.txt
    "$uv" pip install --quiet --python "$work/venv/bin/python" --no-deps "$dist"/*.whl
    said="$(in_empty_home "$roas" --version)"
    [ "$said" = "roas $version" ] || die "the installed wheel says '$said'"
    in_empty_home "$roas" doctor || die "roas doctor of the installed wheel finds this machine wanting"
}

in_empty_home() {
    (cd "$home" && env -u ROAS_DATA_DIR -u XDG_DATA_HOME -u XDG_CONFIG_HOME -u PYTHONPATH \
        HOME="$home" ROAS_WARM=0 "$@")
}

main
