"""Sources from real git repositories: folders, an https server with a token, sshd; signatures; kill at any moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.git.checkouts import Checkouts
from adapters.git.repository import SourceRepository
from models.failures import SourceError, SourceUnreachableError
from models.sources import GitSource, SourceRevision, SourceState
from tests.support.ports import free_port
from tests.support.repositories import (
    GitServer,
    Origin,
    https_repositories,
    new_key,
    new_repository,
    ssh_server,
    sshd,
)

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
COMPOSE = {"compose.yaml": "services: {}\n"}


@pytest.fixture
def shop(tmp_path: Path) -> Origin:
    made = new_repository(tmp_path / "served")
    made.commit("Add the shop", COMPOSE)
    return made


def source_of(
    tmp_path: Path, repository: str | Path, secrets: dict[str, str] | None = None, **fields: Any
) -> SourceRepository:
    source = GitSource(repository=str(repository), **fields)
    return SourceRepository("shop", source, tmp_path / "data" / "shop", secrets or {})


def checkouts(tmp_path: Path) -> Checkouts:
    return Checkouts(tmp_path / "data" / "shop")


def test_a_branch_of_a_folder_is_fetched_with_its_subject(tmp_path: Path, shop: Origin) -> None:
    revision = shop.commit("Sell tea\n\nMore text.", {"tea": "green"})

    found = source_of(tmp_path, shop.bare).fetch()

    assert found == SourceRevision(revision=revision, ref="main", subject="Sell tea")
    assert (tmp_path / "data" / "shop").stat().st_mode & 0o777 == 0o700


def test_a_checkout_is_a_whole_revision_without_anything_of_git(tmp_path: Path, shop: Origin) -> None:
    shop.commit("Sell tea", {"conf/tea": "green", "run.sh": "#!/bin/sh\n"})
    source, own = source_of(tmp_path, shop.bare), checkouts(tmp_path)
    found = source.fetch()

    own.take(source, found, NOW)

    current = tmp_path / "data" / "shop" / "current"
    assert sorted(path.name for path in current.iterdir()) == ["compose.yaml", "conf", "run.sh"]
    # A container of another user reads it.
    assert (current / "conf" / "tea").stat().st_mode & 0o777 == 0o644
    assert own.current() == found.revision
    assert own.changed_files(source) == ()


def test_the_path_of_a_checkout_stays_the_same_and_the_earlier_revision_is_there_again(
    tmp_path: Path, shop: Origin
) -> None:
    source, own = source_of(tmp_path, shop.bare), checkouts(tmp_path)
    first = source.fetch()
    own.take(source, first, NOW)
    shop.commit("Sell tea", {"tea": "green"})
    second = source.fetch()
    own.take(source, second, NOW)
    current = tmp_path / "data" / "shop" / "current"
    assert (current / "tea").read_text() == "green"

    own.take(source, first, NOW)

    assert not (current / "tea").exists()
    assert set(own.revisions()) == {first.revision, second.revision}
    assert own.state().left == {second.revision: NOW}


def test_changed_and_new_files_are_listed_and_never_taken_for_the_revision(tmp_path: Path, shop: Origin) -> None:
    shop.commit("Ignore logs", {".gitignore": "*.log\n"})
    source, own = source_of(tmp_path, shop.bare), checkouts(tmp_path)
    found = source.fetch()
    own.take(source, found, NOW)
    current = tmp_path / "data" / "shop" / "current"
    (current / "compose.yaml").write_text("services: {web: {}}\n")
    (current / "new").write_text("mine")
    (current / "today.log").write_text("ignored")
    assert own.changed_files(source) == ("compose.yaml", "new")
    other = shop.commit("Sell tea")
    own.take(source, source.fetch(), NOW)
    assert own.current() == other

    own.take(source, found, NOW)

    assert (current / "compose.yaml").read_text() == COMPOSE["compose.yaml"]
    assert own.changed_files(source) == ()
    # What was changed is still there.
    kept = tmp_path / "data" / "shop" / "revisions" / found.revision
    assert (kept / "new").read_text() == "mine"


@pytest.mark.parametrize("kind", ["lightweight", "annotated"])
def test_the_newest_version_of_a_pattern_of_tags_is_fetched(tmp_path: Path, shop: Origin, kind: str) -> None:
    options = ["-a", "-m", "release"] if kind == "annotated" else []
    revisions = {}
    for tag in ("v1.9.0", "v1.10.0", "v1.10.0-rc1", "nightly"):
        revisions[tag] = shop.commit(f"Release {tag}")
        shop.git("tag", *options, tag)
        shop.push(tag)

    found = source_of(tmp_path, shop.bare, tag="v1.*").fetch()

    assert found == SourceRevision(revision=revisions["v1.10.0"], ref="v1.10.0", subject="Release v1.10.0")


def test_a_pattern_that_no_tag_matches_says_so(tmp_path: Path, shop: Origin) -> None:
    with pytest.raises(SourceError, match=r"No tag of .* matches v\*"):
        source_of(tmp_path, shop.bare, tag="v*").fetch()


def test_a_branch_that_is_gone_says_so(tmp_path: Path, shop: Origin) -> None:
    with pytest.raises(SourceError, match=r"There is no branch stable in the repository of shop"):
        source_of(tmp_path, shop.bare, branch="stable").fetch()


def test_a_folder_without_a_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="There is no repository at"):
        source_of(tmp_path, tmp_path / "nothing.git").fetch()


def test_rewritten_history_is_no_descendant(tmp_path: Path, shop: Origin) -> None:
    source = source_of(tmp_path, shop.bare)
    first = source.fetch()
    shop.commit("Sell tea")
    second = source.fetch()
    shop.git("commit", "--amend", "--allow-empty", "-q", "-m", "Sell coffee")
    shop.push()
    third = source.fetch()

    assert source.follows(second.revision, first.revision)
    assert source.follows(third.revision, first.revision)
    assert not source.follows(third.revision, second.revision)
    assert not source.follows(third.revision, "0" * 40)


def test_a_link_that_leads_out_of_the_checkout_is_refused(tmp_path: Path, shop: Origin) -> None:
    (shop.copy / "inside").symlink_to("compose.yaml")
    shop.commit("Link inside")
    source, own = source_of(tmp_path, shop.bare), checkouts(tmp_path)
    found = source.fetch()
    own.take(source, found, NOW)
    (shop.copy / "shadow").symlink_to("/etc/shadow")
    shop.commit("Link out")

    with pytest.raises(SourceError, match="has symbolic links that lead out of it: shadow"):
        own.take(source, source.fetch(), NOW)

    assert own.current() == found.revision


def test_a_revision_that_is_too_large_is_not_checked_out(tmp_path: Path, shop: Origin) -> None:
    source, own = source_of(tmp_path, shop.bare, max_mib=1), checkouts(tmp_path)
    before = source.fetch()
    own.take(source, before, NOW)
    # Compressed it is small, so it is fetched.
    shop.commit("Add a dump", {"dump.sql": "0" * 3 * 2**20})
    large = source.fetch()

    with pytest.raises(SourceError, match="has 4 MiB of files, more than the 1 MiB") as refused:
        own.take(source, large, NOW)

    assert "source.max_mib" in refused.value.advice
    assert own.current() == before.revision
    assert own.revisions() == (before.revision,)
    roomy = source_of(tmp_path, shop.bare, max_mib=5)
    own.take(roomy, roomy.fetch(), NOW)
    assert own.current() == large.revision


def test_many_empty_files_count_as_what_they_take(tmp_path: Path, shop: Origin) -> None:
    shop.commit("Add many", {f"many/{number}": "" for number in range(300)})
    source = source_of(tmp_path, shop.bare, max_mib=1)
    with pytest.raises(SourceError, match="has 2 MiB of files"):
        checkouts(tmp_path).take(source, source.fetch(), NOW)


def test_links_with_odd_targets_are_read_whole(tmp_path: Path, shop: Origin) -> None:
    targets = {f"link-{number}": f"tea-{number}" for number in range(200)}
    targets |= {"same": "tea-1", "lines": "a\nb", "word": "c missing", "unicode": "grün", "bytes": "\udcff"}
    for name, target in targets.items():
        (shop.copy / name).symlink_to(target)
    shop.commit("Add links")
    source, own = source_of(tmp_path, shop.bare), checkouts(tmp_path)

    own.take(source, source.fetch(), NOW)

    current = tmp_path / "data" / "shop" / "current"
    assert {name: str((current / name).readlink()) for name in targets} == targets
    (shop.copy / "out").symlink_to("tea\n/../../x")
    shop.commit("Lead out")
    with pytest.raises(SourceError, match="symbolic links that lead out of it: out"):
        own.take(source, source.fetch(), NOW)


def test_folders_within_folders_are_not_listed_to_their_end(tmp_path: Path, shop: Origin) -> None:
    # Each folder holds the next one ten times: a few objects, and 10^9 files.
    tree = shop.git("rev-parse", "HEAD^{tree}")
    for _ in range(9):
        listed = "".join(f"040000 tree {tree}\t{number}\n" for number in range(10))
        made = subprocess.run(
            ["git", "mktree"], cwd=shop.copy, input=listed, capture_output=True, text=True, check=True
        )
        tree = made.stdout.strip()
    shop.git("update-ref", "refs/heads/main", shop.git("commit-tree", "-m", "Add folders", tree))
    shop.push("main")
    source = source_of(tmp_path, shop.bare, max_mib=1)
    with pytest.raises(SourceError, match="git ls-tree printed more than 4 MiB"):
        checkouts(tmp_path).take(source, source.fetch(), NOW)


def test_a_fetch_ends_where_the_server_sends_too_much(tmp_path: Path, shop: Origin) -> None:
    shop.commit("Add noise", {"noise": os.urandom(3 * 2**20).hex()})
    for _ in range(3):
        with pytest.raises(SourceError, match="sends more than 1 MiB at once") as refused:
            source_of(tmp_path, shop.bare, max_mib=1).fetch()
        assert "source.max_mib" in refused.value.advice
    # What was cut off does not pile up.
    kept = sum(path.stat().st_size for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert kept < 2 * 2**20
    source_of(tmp_path, shop.bare).fetch()


def test_a_user_whose_files_are_limited_already_fetches_within_that_limit(tmp_path: Path, shop: Origin) -> None:
    program = f"""
from pathlib import Path
from adapters.git.repository import SourceRepository
from models.sources import GitSource
print(SourceRepository("shop", GitSource(repository={str(shop.bare)!r}), Path({str(tmp_path)!r}), {{}}).fetch().subject)
"""
    # A limit below max_mib that this process may not raise, as of a unit of systemd.
    limited = ["prlimit", f"--fsize={512 * 2**20}:{512 * 2**20}", sys.executable, "-c", program]
    if os.geteuid() == 0:
        limited = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", *limited]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("Add the shop\n", 0), done.stderr


@pytest.mark.campaign
def test_a_history_that_is_larger_than_one_transfer_is_packed_all_the_same(tmp_path: Path, shop: Origin) -> None:
    source, packs = source_of(tmp_path, shop.bare, max_mib=1), tmp_path / "data" / "shop"
    # Git packs anew what came in more than 50 fetches.
    for _ in range(52):
        shop.commit("Change", {"noise": os.urandom(30 * 2**10).hex()})
        source.fetch()

    names = [path.name for path in packs.rglob("objects/pack/*") if path.suffix in (".pack", "")]
    assert len(names) < 10
    assert not [name for name in names if name.startswith("tmp_")]


def test_hooks_and_submodules_of_a_repository_do_nothing(tmp_path: Path, shop: Origin) -> None:
    other = new_repository(tmp_path / "other")
    other.commit("Begin", {"x": "1"})
    shop.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.bare), "vendored")
    shop.commit("Vendor")
    hook = shop.bare / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    source, own = source_of(tmp_path, shop.bare), checkouts(tmp_path)

    assert own.take(source, source.fetch(), NOW) == ("vendored",)

    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "data" / "shop" / "current" / "vendored" / "x").exists()


def test_the_user_s_git_configuration_does_not_count(
    tmp_path: Path, shop: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[url "{tmp_path}/elsewhere"]\n  insteadOf = {shop.bare}\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))

    assert source_of(tmp_path, shop.bare).fetch().ref == "main"


@pytest.fixture
def server(tmp_path: Path, shop: Origin, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    with https_repositories(shop.bare.parent) as made:
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
        yield made


def https_source(tmp_path: Path, server: GitServer, token: str | None = None, **fields: Any) -> SourceRepository:
    secrets = {"GIT_TOKEN": server.token if token is None else token}
    return source_of(tmp_path, f"{server.url}/shop.git", secrets, token_secret="GIT_TOKEN", **fields)


def test_a_token_opens_a_repository_over_https_and_is_written_nowhere(tmp_path: Path, server: GitServer) -> None:
    source, own = https_source(tmp_path, server), checkouts(tmp_path)

    own.take(source, source.fetch(), NOW)

    assert (tmp_path / "data" / "shop" / "current" / "compose.yaml").is_file()
    assert not any(server.token in path for path in server.seen)
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and not path.is_symlink()]
    assert written
    assert not any(server.token.encode() in path.read_bytes() for path in written)


def test_a_token_is_in_no_argument_and_no_variable_of_a_process(
    tmp_path: Path, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Git's own program is put behind one that writes down what it was given.
    folder = tmp_path / "bin"
    folder.mkdir()
    seen = tmp_path / "seen"
    real = shutil.which("git")
    (folder / "git").write_text(f'#!/bin/sh\n{{ echo "$0 $*"; env; }} >>{seen}\nexec {real} "$@"\n')
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    https_source(tmp_path, server).fetch()

    text = seen.read_text()
    assert "fetch" in text
    assert server.token not in text


def test_a_wrong_token_says_what_to_check(tmp_path: Path, server: GitServer) -> None:
    with pytest.raises(SourceError, match="does not let us in") as raised:
        https_source(tmp_path, server, token="wrong").fetch()
    assert "token of source.token_secret" in raised.value.advice
    assert "wrong" not in str(raised.value)


def test_a_token_that_is_not_set_says_which(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Secret GIT_TOKEN, the token for the repository of shop, cannot be read"):
        source_of(tmp_path, "https://git.example/shop.git", {}, token_secret="GIT_TOKEN")


def test_a_certificate_that_is_not_trusted_says_so(
    tmp_path: Path, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceError, match=r"certificate of the server .* is not trusted"):
        https_source(tmp_path, server).fetch()


def test_a_server_that_is_away_or_broken_may_be_back(tmp_path: Path, server: GitServer) -> None:
    server.broken = True
    with pytest.raises(SourceUnreachableError):
        https_source(tmp_path, server).fetch()
    with pytest.raises(SourceUnreachableError, match="did not answer"):
        source_of(tmp_path, f"https://localhost:{free_port()}/shop.git").fetch()


def test_a_token_does_not_follow_a_redirect(tmp_path: Path, server: GitServer) -> None:
    server.moved_to = "https://localhost:1"
    with pytest.raises(SourceError, match="has moved"):
        https_source(tmp_path, server).fetch()


@pytest.mark.skipif(sshd() is None, reason="openssh-server is not installed")
def test_a_key_opens_a_repository_over_ssh(tmp_path: Path, shop: Origin) -> None:
    with ssh_server(tmp_path / "ssh") as server:
        address = server.address(shop)
        found = source_of(tmp_path, address, ssh_key=server.key, known_hosts=server.known_hosts).fetch()
        assert found.subject == "Add the shop"
        other = new_key(tmp_path / "other")
        with pytest.raises(SourceError, match="does not let us in"):
            source_of(tmp_path, address, ssh_key=other, known_hosts=server.known_hosts).fetch()
        unknown = tmp_path / "known"
        unknown.write_text("")
        with pytest.raises(SourceError, match=r"host key .* is not known or has changed"):
            source_of(tmp_path, address, ssh_key=server.key, known_hosts=unknown).fetch()


def signers(tmp_path: Path, *keys: Path) -> Path:
    file = tmp_path / "allowed_signers"
    file.write_text("".join(f"ann@shop.example {key.with_suffix('.pub').read_text()}" for key in keys))
    return file


def test_only_commits_signed_by_an_allowed_key_are_taken(tmp_path: Path, shop: Origin) -> None:
    ours, other = new_key(tmp_path / "ours"), new_key(tmp_path / "other")
    source = source_of(tmp_path, shop.bare, verify="signed", allowed_signers=signers(tmp_path, ours))
    with pytest.raises(SourceError, match="is not signed by an allowed key"):
        source.fetch()
    for key, name in ((other, "other"), (ours, "ours")):
        shop.git(
            "-c", "gpg.format=ssh", "-c", f"user.signingKey={key}", "commit", "--allow-empty", "-q", "-S", "-m", name
        )
        shop.push()
        if key == other:
            with pytest.raises(SourceError, match="is not signed by an allowed key"):
                source.fetch()
    assert source.fetch().subject == "ours"


def test_a_signed_tag_vouches_for_a_commit_that_is_not_signed(tmp_path: Path, shop: Origin) -> None:
    ours = new_key(tmp_path / "ours")
    source = source_of(tmp_path, shop.bare, tag="v*", verify="signed", allowed_signers=signers(tmp_path, ours))
    shop.git("tag", "-a", "-m", "one", "v1")
    shop.push("v1")
    with pytest.raises(SourceError, match="tag v1 of shop is not signed"):
        source.fetch()
    shop.git("-c", "gpg.format=ssh", "-c", f"user.signingKey={ours}", "tag", "-s", "-m", "two", "v2")
    shop.push("v2")
    assert source.fetch().ref == "v2"


def test_an_earlier_signed_tag_under_a_new_name_is_refused(tmp_path: Path, shop: Origin) -> None:
    ours = new_key(tmp_path / "ours")
    source = source_of(tmp_path, shop.bare, tag="v*", verify="signed", allowed_signers=signers(tmp_path, ours))
    shop.git("-c", "gpg.format=ssh", "-c", f"user.signingKey={ours}", "tag", "-s", "-m", "one", "v1")
    shop.push("v1", "refs/tags/v1:refs/tags/v9")

    with pytest.raises(SourceError, match=r"The tag v9 of shop was signed under another name, v1:"):
        source.fetch()


def test_a_tag_on_a_commit_that_the_running_one_has_in_its_history_does_not_follow_it(
    tmp_path: Path, shop: Origin
) -> None:
    source, old = source_of(tmp_path, shop.bare, tag="v*"), shop.git("rev-parse", "HEAD")
    running = shop.commit("Sell tea")
    shop.git("tag", "v2")
    shop.git("tag", "v9", old)
    shop.git("checkout", "-q", "-b", "hotfix", old)
    shop.git("commit", "-q", "--allow-empty", "-m", "Repair the door")
    beside = shop.git("rev-parse", "HEAD")
    shop.git("tag", "v1.1")
    shop.push("v2", "v1.1")
    assert source.fetch().ref == "v2"
    shop.push("v9")

    assert source.fetch().revision == old

    assert not source.follows(old, running)
    assert source.follows(running, running)
    # An older line of versions gets its repairs; that one was never fetched here.
    assert not source.follows(beside, running)
    assert source_of(tmp_path, shop.bare, tag="v1.*").fetch().revision == beside
    assert source.follows(beside, running)
    assert not source.follows(running, "0" * 40), "unknown here"


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_a_commit_signed_with_gpg_is_taken_with_its_public_key(tmp_path: Path, shop: Origin) -> None:
    # A socket's path may have at most 107 bytes.
    home = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    environ = os.environ | {"GNUPGHOME": str(home)}
    gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    try:
        user = "Ann <ann@shop.example>"
        subprocess.run([*gpg, "--quick-gen-key", user, "ed25519", "sign"], env=environ, check=True, capture_output=True)
        public = subprocess.run([*gpg, "--armor", "--export"], env=environ, check=True, capture_output=True).stdout
        (tmp_path / "keys").write_bytes(public)
        command = ["git", "-C", str(shop.copy), "-c", "user.name=Ann", "-c", "user.email=ann@shop.example"]
        command += ["commit", "--allow-empty", "-q", "-S", "-m", "signed"]
        subprocess.run(command, env=environ, check=True, capture_output=True)
        shop.push()
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env=environ, check=False)
        shutil.rmtree(home, ignore_errors=True)

    assert source_of(tmp_path, shop.bare, verify="signed", gpg_keys=tmp_path / "keys").fetch().subject == "signed"
    allowed = signers(tmp_path, new_key(tmp_path / "ours"))
    with pytest.raises(SourceError, match="is not signed by an allowed key"):
        source_of(tmp_path, shop.bare, verify="signed", allowed_signers=allowed).fetch()


_SWITCHES = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from adapters.git.checkouts import Checkouts
from adapters.git.repository import SourceRepository
from models.sources import GitSource, SourceRevision, SourceState
folder, bare, *revisions = sys.argv[1:]
source = SourceRepository("shop", GitSource(repository=bare), Path(folder), {})
own = Checkouts(Path(folder))
source.fetch()
print("ready", flush=True)
while True:
    for revision in revisions:
        own.take(source, SourceRevision(revision=revision), datetime.now(UTC))
        own.remove(source, [one for one in own.revisions() if one != revision])
"""


def test_a_checkout_is_whole_whenever_its_process_is_killed(tmp_path: Path, shop: Origin) -> None:
    names = [f"file{number}" for number in range(40)]
    revisions = [shop.commit(f"Version {text}", dict.fromkeys(names, text)) for text in ("one", "two")]
    folder = tmp_path / "data" / "shop"
    script = tmp_path / "switches.py"
    script.write_text(textwrap.dedent(_SWITCHES))
    seen = set()
    for number in range(8):
        command = [sys.executable, str(script), str(folder), str(shop.bare), *revisions]
        environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        # Somewhere else within the switches each time.
        time.sleep(0.02 * number)
        # Its git goes on without it for a moment, as it would on a real machine.
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        process.stdout.close()
        current = folder / "current"
        if current.exists():
            contents = {(current / name).read_text() for name in names}
            assert len(contents) == 1, contents
            seen |= contents
        psutil.wait_procs(children)
    own, source = Checkouts(folder), source_of(tmp_path, shop.bare)
    assert source.fetch().revision == revisions[1]
    own.take(source, SourceRevision(revision=revisions[0]), NOW)
    assert own.changed_files(source) == ()
    assert not [path for path in (folder / "revisions").iterdir() if path.name.startswith(".")]
    assert seen


def test_what_is_known_of_a_source_stays_small_enough_to_be_read(tmp_path: Path) -> None:
    own = checkouts(tmp_path)
    known = {f"{number:040x}": SourceRevision(revision=f"{number:040x}", ref="main", subject="x" * 60_000)
             for number in range(200)}  # fmt: skip
    own.keep_state(SourceState(known=known))
    left = list(own.state().known)
    assert left == list(known)[-len(left) :]
    assert len(left) == 50

    (tmp_path / "data" / "shop" / "state.json").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(SourceError, match="larger than 4,194,304 bytes"):
        own.state()
