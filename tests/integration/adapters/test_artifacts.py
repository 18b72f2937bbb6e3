"""Sources from a real registry on loopback: fetched whole or not at all, checked by digests, sizes and signatures."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.git.checkouts import Checkouts
from adapters.oci.artifacts import ArtifactRepository
from core.deployment.artifact import import_stream, read_manifest
from models.failures import SourceError, SourceUnreachableError
from models.sources import OciSource, SourceRevision
from tests.support.artifacts import COMPOSE_FILE, ArtifactPlace, SigningKey, artifact_registry, token_front

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
FILES = {"compose.yaml": "services: {}\n", "shop.env": "A=1\n"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ArtifactPlace]:
    with artifact_registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture(autouse=True)
def docker_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


def source_of(tmp_path: Path, address: str, **fields: Any) -> ArtifactRepository:
    return ArtifactRepository("shop", OciSource.model_validate({"oci": address} | fields), tmp_path / "data")


def checkouts(tmp_path: Path) -> Checkouts:
    return Checkouts(tmp_path / "data")


def copies(tmp_path: Path) -> list[str]:
    command = ["git", f"--git-dir={tmp_path}/data/repository.git", "tag"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_what_compose_publishes_is_checked_out_by_its_digest(tmp_path: Path, shop: ArtifactPlace) -> None:
    digest = shop.publish(FILES, "v1", annotations={"org.opencontainers.image.version": "1.0"})
    source, own = source_of(tmp_path, f"{shop.address}:v1"), checkouts(tmp_path)

    found = source.fetch()
    own.take(source, found, NOW)

    assert found == SourceRevision(revision=digest, ref="v1", subject="1.0")
    current = tmp_path / "data" / "current"
    assert {path.name: path.read_text() for path in current.iterdir()} == FILES
    assert (current / "shop.env").stat().st_mode & 0o777 == 0o644
    assert own.changed_files(source) == ()
    assert source.paths(digest) == {".", *FILES}


def test_files_of_oras_have_folders_and_compose_files_of_one_name_are_documents(
    tmp_path: Path, shop: ArtifactPlace
) -> None:
    name = {"com.docker.compose.file": "compose.yaml"}
    layers = [(b"services: {}", COMPOSE_FILE, name), (b"name: shop", COMPOSE_FILE, name)]
    shop.push("latest", [*layers, (b"on", "text/plain", {"org.opencontainers.image.title": 'conf/"é" \\.conf'})])
    source = source_of(tmp_path, shop.address)

    found = source.fetch()
    checkouts(tmp_path).take(source, found, NOW)

    current = tmp_path / "data" / "current"
    assert (current / "compose.yaml").read_text() == "services: {}\n---\nname: shop"
    assert (current / "conf" / '"é" \\.conf').read_text() == "on"
    assert (current / "conf").stat().st_mode & 0o777 == 0o755
    assert source.paths(found.revision) == {".", "compose.yaml", "conf", 'conf/"é" \\.conf'}


def test_a_moved_tag_is_a_new_revision_and_one_that_was_moved_back_waits_for_a_person(
    tmp_path: Path, shop: ArtifactPlace
) -> None:
    first = shop.publish(FILES)
    source, own = source_of(tmp_path, shop.address), checkouts(tmp_path)
    own.take(source, source.fetch(), NOW)
    second = shop.publish(FILES | {"shop.env": "A=2\n"})
    own.take(source, source.fetch(), NOW)
    assert (tmp_path / "data" / "current" / "shop.env").read_text() == "A=2\n"

    shop.move("latest", first)

    assert source.fetch().revision == first
    assert source.follows(second, first)
    assert not source.follows(first, second)
    assert not source.follows(second, "a" * 40)
    pinned = source_of(tmp_path, f"{shop.address}:latest@sha256:{second}").fetch()
    assert (pinned.revision, pinned.ref) == (second, "latest")
    # The earlier one is there without the registry.
    shop.registry.stop()
    own.take(source, SourceRevision(revision=first), NOW)
    assert (tmp_path / "data" / "current" / "shop.env").read_text() == "A=1\n"
    with pytest.raises(SourceUnreachableError, match=r"The registry localhost:\d+ did not answer: Connection refused;"):
        source.fetch()


def test_changed_and_new_files_are_listed_and_a_copy_that_was_lost_is_fetched_again(
    tmp_path: Path, shop: ArtifactPlace
) -> None:
    digest = shop.publish(FILES)
    source, own = source_of(tmp_path, shop.address), checkouts(tmp_path)
    own.take(source, source.fetch(), NOW)
    current = tmp_path / "data" / "current"
    (current / "shop.env").write_text("A=9\n")
    (current / "new").symlink_to("/etc/passwd")
    assert own.changed_files(source) == ("new", "shop.env")

    shutil.rmtree(tmp_path / "data" / "repository.git")

    assert not source.has(digest)
    assert not source.follows("b" * 64, digest)
    assert source.fetch().revision == digest
    assert own.changed_files(source) == ("new", "shop.env")


def test_what_was_never_checked_out_is_forgotten(tmp_path: Path, shop: ArtifactPlace) -> None:
    first = shop.publish(FILES)
    source, own = source_of(tmp_path, shop.address), checkouts(tmp_path)
    own.take(source, source.fetch(), NOW)
    shop.publish(FILES | {"shop.env": "A=2\n"})
    source.fetch()
    third = shop.publish(FILES | {"shop.env": "A=3\n"})

    source.fetch()

    assert copies(tmp_path) == sorted([first, third])


def test_an_import_that_is_cut_off_makes_no_commit(tmp_path: Path, shop: ArtifactPlace) -> None:
    digest = shop.publish(FILES)
    source = source_of(tmp_path, shop.address)
    source.fetch()
    manifest = read_manifest(json.dumps({"layers": []}).encode(), "shop")
    whole = import_stream("refs/tags/cut", manifest, {})
    command = ["git", f"--git-dir={tmp_path}/data/repository.git", "fast-import", "--quiet"]
    for length in range(0, len(whole) - 1, 9):
        subprocess.run(command, input=whole[:length], capture_output=True, check=False)
        assert copies(tmp_path) == [digest]
    subprocess.run(command, input=whole, capture_output=True, check=True)
    assert copies(tmp_path) == sorted([digest, "cut"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../compose.yaml", r"has the name '\.\./compose\.yaml', which is no path inside of the checkout;"),
        ("/etc/cron.d/x", "which is no path inside of the checkout;"),
        ("a/../../b", "which is no path inside of the checkout;"),
        ("a/.git/config", "which is no path inside of the checkout;"),
        (".", "which is no path inside of the checkout;"),
        ("a\x1b[2J", r"'a\\x1b\[2J', which is no path"),
        ("", "no artifact of Compose files: layer .* is no file with a name"),
    ],
)
def test_a_name_never_leaves_the_checkout(tmp_path: Path, shop: ArtifactPlace, name: str, message: str) -> None:
    shop.push("latest", [(b"x", COMPOSE_FILE, {"com.docker.compose.file": name})])

    with pytest.raises(SourceError, match=message):
        source_of(tmp_path, shop.address).fetch()

    assert copies(tmp_path) == []


def test_what_is_no_artifact_or_too_large_is_one_clear_line(tmp_path: Path, shop: ArtifactPlace) -> None:
    source = source_of(tmp_path, shop.address)
    with pytest.raises(SourceError, match=r"There is no artifact localhost:\d+/ann/shop, or not for us;"):
        source.fetch()
    layer = "application/vnd.oci.image.layer.v1.tar+gzip"
    shop.push("latest", [(b"x", layer, {})])
    with pytest.raises(SourceError, match="is no artifact of Compose files: layer"):
        source.fetch()
    shop.push("latest", [(b"x", layer, {"org.opencontainers.image.title": "f", "io.deis.oras.content.unpack": "true"})])
    with pytest.raises(SourceError, match="of an image or a folder"):
        source.fetch()
    shop.push("latest", [(b"x", "a/b", {"org.opencontainers.image.title": "f"})] * 2)
    with pytest.raises(SourceError, match="it has two files with the name f;"):
        source.fetch()
    shop.push("latest", [(b"x", "a/b", {"org.opencontainers.image.title": name}) for name in ("a", "a/b")])
    with pytest.raises(SourceError, match="a/b is in a folder that is a file as well;"):
        source.fetch()
    index = "application/vnd.oci.image.index.v1+json"
    shop.put_manifest("latest", {"schemaVersion": 2, "mediaType": index, "manifests": []})
    with pytest.raises(SourceError, match="is an index of several artifacts or images;"):
        source.fetch()
    shop.publish({"compose.yaml": "#" * (2**20 + 1)})
    with pytest.raises(SourceError, match="has 2 MiB of files, and may have 1;"):
        source_of(tmp_path, shop.address, max_mib=1).fetch()
    assert copies(tmp_path) == []


def test_a_blob_with_other_content_than_its_digest_is_refused(tmp_path: Path, shop: ArtifactPlace) -> None:
    shop.publish(FILES)
    damaged = shop.publish({"compose.yaml": "services: {web: {}}\n"})
    for data in shop.registry.folder.rglob("blobs/**/data"):
        if data.read_bytes() == b"services: {web: {}}\n":
            data.write_bytes(b"services: {bad: {}}\n")

    with pytest.raises(SourceError, match=r"Blob .* has other content than its digest says;"):
        source_of(tmp_path, shop.address).fetch()

    assert not any(name == damaged for name in copies(tmp_path))


def test_only_an_artifact_that_the_key_signed_is_taken(tmp_path: Path, shop: ArtifactPlace) -> None:
    key, other = SigningKey(tmp_path / "cosign.pub"), SigningKey(tmp_path / "other.pub")
    first = shop.publish(FILES)
    source = source_of(tmp_path, shop.address, verify={"key": str(key.file)})
    refused = rf"Artifact {first[:12]} of shop is not signed by the key .*cosign\.pub;"
    with pytest.raises(SourceError, match=refused):
        source.fetch()
    shop.sign(first, other)
    with pytest.raises(SourceError, match=refused):
        source.fetch()
    # A signature of another artifact, under the name of this one.
    shop.sign(first, key, names="c" * 64)
    with pytest.raises(SourceError, match=refused):
        source.fetch()
    assert copies(tmp_path) == []

    shop.sign(first, key)

    assert source.fetch().revision == first
    (tmp_path / "cosign.pub").write_text("no key")
    with pytest.raises(SourceError, match=r"cosign\.pub is no public key of ECDSA P-256"):
        source.fetch()


def log_in(configuration: Path, address: str, user: str, password: str) -> None:
    login = {"auth": b64encode(f"{user}:{password}".encode()).decode()}
    configuration.write_text(json.dumps({"auths": {address.partition("/")[0]: login}}))


def test_a_registry_with_a_password_gets_the_login_of_docker(
    tmp_path: Path, shop: ArtifactPlace, docker_configuration: Path
) -> None:
    digest = shop.publish(FILES)
    shop.registry.stop()
    accounts = tmp_path / "accounts"
    # "t0ken-of-ann", by bcrypt.
    accounts.write_text("ann:$2b$04$abcdefghijklmnopqrstuuScHEIINw/w7A9EDz59MuqBFwJPpNOeO\n")
    shop.registry.settings = f"auth: {{htpasswd: {{realm: shop, path: {accounts}}}}}\n"
    shop.registry.start()
    source = source_of(tmp_path, shop.address)
    refused = r"The registry localhost:\d+ does not let us read ann/shop;"
    with pytest.raises(SourceError, match=refused):
        source.fetch()
    log_in(docker_configuration, shop.address, "ann", "wr0ng-password")
    with pytest.raises(SourceError, match=refused) as error:
        source.fetch()
    assert "wr0ng" not in str(error.value)
    log_in(docker_configuration, shop.address, "ann", "t0ken-of-ann")

    assert source.fetch().revision == digest

    docker_configuration.write_text(json.dumps({"credHelpers": {shop.address.partition("/")[0]: "none-here"}}))
    with pytest.raises(SourceError, match=r"Docker's configuration does not say who logs in at localhost:\d+"):
        source.fetch()


def test_a_registry_with_tokens_and_another_server_for_blobs_gets_each_login_once(
    tmp_path: Path, shop: ArtifactPlace, docker_configuration: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = shop.publish(FILES)
    caplog.clear()
    caplog.set_level(logging.INFO)
    with token_front(shop, "ann", "t0ken-of-ann") as front:
        log_in(docker_configuration, front.address, "ann", "t0ken-of-ann")
        source = source_of(tmp_path, front.address)

        assert source.fetch().revision == digest

        assert front.seen == ["nothing at v2", "Basic at token", *["Bearer at v2"] * 3]
        # The address of a blob at another server may let in who has it.
        assert "/blobs/" not in caplog.text
        shutil.rmtree(tmp_path / "data")
        for location, message in (
            *(
                (one, "did not answer: ")
                for one in ("http://[", "http://127.0.0.1:99999/", "http://a..b/", "http://127.0.0.1:0")
            ),
            ("file:///etc/passwd", "did not answer: "),
            (f"http://127.0.0.1:{shop.registry.port}/v2/", "has other content than its digest says;"),
            (f"http://127.0.0.1:{shop.registry.port}/none", "is not there;"),
        ):
            front.location = location
            with pytest.raises(SourceError, match=message):
                source.fetch()
        front.location = ""
        front.seen.clear()
        token = {"identitytoken": "t0ken-of-ann"}
        docker_configuration.write_text(json.dumps({"auths": {front.address.partition("/")[0]: token}}))
        assert source.fetch().revision == digest
        assert front.seen[:2] == ["nothing at v2", "refresh_token at token"]
        log_in(docker_configuration, front.address, "ann", "wrong")
        with pytest.raises(SourceError, match="does not let us read ann/shop;"):
            source.fetch()
        front.seen.clear()
        front.realm = f"http://registry.example:{shop.registry.port}/token"
        with pytest.raises(SourceError, match="asks for a login that is not supported;"):
            source.fetch()
        front.fails = [503]
        with pytest.raises(SourceUnreachableError, match=r"The registry localhost:\d+ answered with 503;"):
            source.fetch()
        # Which artifact a tag names is for the registry alone to say.
        front.fails = [307]
        with pytest.raises(SourceError, match=r"The registry localhost:\d+ answered with 307;"):
            source.fetch()
        assert not any(seen.startswith("Basic") for seen in front.seen)


_ENDLESS = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from adapters.git.checkouts import Checkouts
from adapters.oci.artifacts import ArtifactRepository
from models.sources import OciSource

source = ArtifactRepository("shop", OciSource(oci=sys.argv[1]), Path(sys.argv[2]))
own = Checkouts(Path(sys.argv[2]))
print("ready", flush=True)
own.take(source, source.fetch(), datetime.now(UTC))
"""


@pytest.mark.campaign(seconds=30)
def test_a_fetch_that_is_killed_leaves_a_whole_checkout(tmp_path: Path, shop: ArtifactPlace) -> None:
    many = {f"{number}.env": f"A={number}\n" for number in range(20)}
    shop.publish({"compose.yaml": "services: {}\n", "version.env": "0"})
    source, own, current = source_of(tmp_path, shop.address), checkouts(tmp_path), tmp_path / "data" / "current"
    own.take(source, source.fetch(), NOW)
    for turn in range(1, 9):
        files = {"compose.yaml": "services: {}\n", "version.env": str(turn)} | many
        shop.publish(files)
        command = [sys.executable, "-c", _ENDLESS, shop.address, str(tmp_path / "data")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with suppress(subprocess.TimeoutExpired):
                process.wait(turn * 0.04)
            process.kill()

        # Whichever it is, it is whole, and the next sync takes the new one.
        assert own.changed_files(source) == ()
        own.take(source, source.fetch(), NOW)
        assert (current / "version.env").read_text() == str(turn)
        assert {path.name for path in current.iterdir()} == files.keys()
        assert own.changed_files(source) == ()
        assert not list((tmp_path / "data" / "revisions").glob(".partial-*"))


@pytest.mark.parametrize(
    "text",
    ["[]", '{"auths": [1]}', '{"auths": {"HOST": 1}}', '{"auths": {"HOST": {"auth": "!"}}}', '{"credsStore": 1}'],
)
def test_a_damaged_configuration_of_docker_is_one_clear_line(
    tmp_path: Path, shop: ArtifactPlace, docker_configuration: Path, text: str
) -> None:
    shop.publish(FILES)
    docker_configuration.write_text(text.replace("HOST", shop.address.partition("/")[0]))
    with token_front(shop, "ann", "t0ken-of-ann") as front:
        docker_configuration.write_text(text.replace("HOST", front.address.partition("/")[0]))

        with pytest.raises(SourceError, match=r"does not say who logs in at|does not let us read ann/shop"):
            source_of(tmp_path, front.address).fetch()


def test_files_may_have_all_that_is_allowed(tmp_path: Path, shop: ArtifactPlace) -> None:
    shop.push("latest", [(os.urandom(2**20), "a/b", {"org.opencontainers.image.title": "large"})])
    source, own = source_of(tmp_path, shop.address, max_mib=1), checkouts(tmp_path)

    own.take(source, source.fetch(), NOW)

    assert (tmp_path / "data" / "current" / "large").stat().st_size == 2**20


def test_a_proxy_is_not_asked_for_a_registry_of_this_machine(
    tmp_path: Path, shop: ArtifactPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = shop.publish(FILES)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert source_of(tmp_path, shop.address).fetch().revision == digest


def test_what_the_compose_program_publishes_is_taken(tmp_path: Path, shop: ArtifactPlace) -> None:
    files = {
        "compose.yaml": "services:\n  web:\n    image: shop/web\n",
        "prod.yaml": "services:\n  web:\n    init: true\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    compose = ["docker", "compose", *(word for name in files for word in ("-f", str(tmp_path / name)))]
    shown = subprocess.run([*compose, "publish", "--help"], capture_output=True, text=True, check=False).stdout
    # Versions before 2.34 have it as an experiment.
    words = ["publish"] if "compose publish" in shown else ["alpha", "publish"]
    address = f"127.0.0.1:{shop.registry.port}/{shop.name}:v1"
    subprocess.run([*compose, *words, "--oci-version=1.0", address], check=True, capture_output=True, input=b"y\n")
    source = source_of(tmp_path, f"{shop.address}:v1")

    checkouts(tmp_path).take(source, source.fetch(), NOW)

    current = tmp_path / "data" / "current"
    assert {path.name for path in current.iterdir()} == files.keys()
    assert "shop/web" in (current / "compose.yaml").read_text()


def test_another_manifest_than_the_digest_says_is_refused(tmp_path: Path, shop: ArtifactPlace) -> None:
    digest = shop.publish(FILES)
    (data,) = shop.registry.folder.rglob(f"blobs/sha256/*/{digest}/data")
    data.write_bytes(data.read_bytes().replace(b"compose.yaml", b"another.yaml"))

    with pytest.raises(SourceError, match=rf"gives another artifact than localhost:\d+/ann/shop@sha256:{digest}, one"):
        source_of(tmp_path, f"{shop.address}@sha256:{digest}").fetch()


@pytest.mark.parametrize(
    "address", ["a..b/shop", "localhost:99999/shop", "127.0.0.1:0/shop", "x.invalid:1/s", "x-.b/s"]
)
def test_a_registry_that_cannot_be_is_one_clear_line(tmp_path: Path, address: str) -> None:
    with pytest.raises(SourceUnreachableError, match=r"The registry .* did not answer: .+;"):
        source_of(tmp_path, address).fetch()
