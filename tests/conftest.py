"""Fixtures that several folders share, and how tests are spread over workers."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support import progress, tiers
from tests.support.engines import engine_of_the_session, own_engine
from tests.support.kept_images import forget_kept_images
from tests.support.prefect_server import prefect_server
from tests.support.warm import begin_session, end_session

# A `roas serve` of the user leaves its address and password in the checkout.
os.environ["PREFECT_PROFILES_PATH"] = os.devnull
# Commands use a warm process only where they are given the variables of `warm_commands`.
os.environ["ROAS_WARM"] = "0"

# No test holds a time: an example that waits for a processor has not failed.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

__all__ = ["engine_of_the_session", "own_engine", "prefect_server"]

ROOT = Path(__file__).parents[1]

# To look for garbage among what the imports and the collection keep took two fifths of their time.
gc.disable()


@pytest.fixture(autouse=True)
def _our_log_as_at_the_beginning() -> Iterator[None]:
    """A command that a test runs in this process sets our log up for itself; the next test must not see it."""
    log = logging.getLogger("roas")
    log.propagate, log.disabled = True, False
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    log.handlers[:] = handlers


@pytest.fixture(autouse=True)
def _kept_images_end_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Images keep the names that a data folder gave them for its releases; nothing else removes them after a test."""
    if request.node.get_closest_marker("engine") is None or "tmp_path" not in request.fixturenames:
        yield
        return
    folder: Path = request.getfixturevalue("tmp_path")
    yield
    forget_kept_images(folder)


@pytest.fixture(autouse=True, scope="session")
def _kept_images_end_with_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Those that folders of whole modules and sessions kept, too."""
    yield
    forget_kept_images(tmp_path_factory.getbasetemp())


# These take longest of what every run takes, so they begin first: otherwise one worker runs them alone at the end.
_LONGEST_FIRST = (
    "test_simulation",
    "test_live",
    "test_tutorial",
    "test_install",
    "test_like_compose",
    "test_shared_repository",
    "test_block_encryption",
)


class _SharingTogether(LoadScopeScheduling):
    """Spread tests over workers one by one, but keep a file together whose tests share something."""

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)


def _unit(nodeid: str) -> str:
    """What runs in one worker: a file whose tests share something, or else a single test."""
    file = _file(nodeid)
    return file if _shares(file) else nodeid


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@cache
def _shares(file: str) -> bool:
    """Report whether tests of a file share a fixture of their module or the one engine that a test may stop."""
    text = (ROOT / file).read_text()
    return 'scope="module"' in text or "own_engine" in text


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Use our own way to spread tests; xdist's groups do not work with this version of pytest."""
    return _SharingTogether(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of a run: its tier, its share of the campaigns, and the name under which it prints."""
    tiers.add_options(parser)
    progress.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what the workers of a session share."""
    progress.configure(config)
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        # A shell gives its background jobs ignored signals, and programs that tests start would inherit them.
        if signal.getsignal(one) is signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler if one is signal.SIGINT else signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        begin_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what the workers shared."""
    if not hasattr(config, "workerinput"):
        end_session()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the run's tier, and begin with those that take longest."""
    tiers.select(config, items, _unit)
    costs: Counter[str] = Counter()
    for item in items:
        costs[_unit(item.nodeid)] += round(tiers.seconds_of(item) or 0)
    items.sort(key=lambda item: _place(item, costs))


def pytest_collection_finish() -> None:
    """Look for garbage from now on, in what the tests make."""
    gc.freeze()
    gc.enable()


def _place(item: pytest.Item, costs: Mapping[str, int]) -> tuple[int, bool, bool]:
    """Campaigns begin first, the dearest before the others, then what one worker runs as a whole.

    Tests of a file that share something keep their order: what changes it for good comes last there.
    """
    dearest_first = -costs[_unit(item.nodeid)]
    return dearest_first, item.path.stem not in _LONGEST_FIRST, not _shares(_file(item.nodeid))
