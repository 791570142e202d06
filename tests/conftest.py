"""What tests of several rooms need: our warnings as errors, one thread, small sources, a browser, a GPU or a reason."""

import gc
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.sources.repository import NAMING_A_REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Not in pyproject.toml, which counts for `pytest bench/` too: there a kernel that warns is to get its verdict.
OUR_WARNINGS = (r"error:::(attention|attention_base|bench|tests)(\.|$)", "error::pytest.PytestWarning")
gc.disable()  # until the first test: it takes a third of the time in which these are collected
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_configure(config: pytest.Config) -> None:
    for name in NAMING_A_REPOSITORY:  # a hook or a linked worktree sets them, and git would work on that repository
        os.environ.pop(name, None)
    for warning in OUR_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _little_garbage() -> None:
    gc.freeze()  # what was imported until now: going through it takes a third of a second each time
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device here"))


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Write ``attention/`` with the given files (text by name) into a new directory and return that."""

    def write(**files: str) -> Path:
        root = tmp_path / "written" / "attention"
        root.mkdir(parents=True, exist_ok=True)
        for stem, text in files.items():
            (root / f"{stem}.py").write_text(text, encoding="utf-8")
        return root.parent

    return write


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """The system's chromium without a window, one for all tests of a worker."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # slow, and a machine with a GPU may not have it

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f"there is no browser here to open the page in ({', '.join(BROWSERS)}): apt-get install chromium"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(f"{reason}, or unset REQUIRE_BROWSER")
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def git(directory: Path, *arguments: str) -> str:
    """Run git with an identity of its own, which may clone from folders; returns what it printed."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
    command = ["git", *identity, "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def lacking_all_but(*distributions: str) -> str:
    """Return code that lets an interpreter import these distributions and what they require, and no other."""
    needed: set[str] = set()
    names = list(distributions)
    while names:
        name = _normal(names.pop())
        if name not in needed:
            needed.add(name)
            names += [found[0] for r in _required(name) if "extra ==" not in r and (found := re.match(r"[\w.-]+", r))]
    owners = packages_distributions().items()
    lacking = sorted(module for module, of in owners if not needed & set(map(_normal, of)))
    return f"import sys\nsys.modules.update(dict.fromkeys({lacking}))\n"


def _required(distribution: str) -> list[str]:
    try:
        return requires(distribution) or []
    except PackageNotFoundError:  # of another platform
        return []


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@dataclass
class Tab:
    """One page of the browser, which shows a text from a file, offline, and notes what goes wrong meanwhile."""

    page: "Page"
    path: Path
    complaints: list[str] = field(default_factory=list)
    requests: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(5000)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.add(request.url))

    def show(self, text: str) -> "Page":
        self.path.write_text(text, encoding="utf-8")
        self.page.goto(self.path.as_uri())
        return self.page

    def assert_quiet(self) -> None:
        """Fail if the page complained, or asked for anything but itself."""
        assert self.complaints == []
        assert self.requests <= {self.path.as_uri()}


@pytest.fixture
def open_page(browser: "Browser", tmp_path: Path) -> Iterator[Callable[..., "Page"]]:
    """Open a page of its own with settings of its own; afterwards it must have been quiet."""
    tabs: list[Tab] = []

    def opened(text: str, **settings: Any) -> "Page":
        tabs.append(Tab(browser.new_context(offline=True, **settings).new_page(), tmp_path / f"{len(tabs)}.html"))
        return tabs[-1].show(text)

    yield opened
    for tab in tabs:
        tab.page.context.close()
        tab.assert_quiet()


@pytest.fixture(scope="module")
def _shared_tab(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    context = browser.new_context(offline=True, reduced_motion="reduce")
    yield Tab(context.new_page(), tmp_path_factory.mktemp("tab") / "page.html")
    context.close()


@pytest.fixture
def reopen(_shared_tab: Tab) -> Iterator[Callable[[str], "Page"]]:
    """Open a page where the last test had one, since a new one starts a process; 1400 x 900, and as it was written.

    A test that asks for another medium or scheme opens a page of its own.
    """
    _shared_tab.page.goto("about:blank")  # a fragment in the last address would keep the page as it is
    _shared_tab.page.set_viewport_size({"width": 1400, "height": 900})
    _shared_tab.complaints.clear()
    _shared_tab.requests.clear()
    yield _shared_tab.show
    _shared_tab.assert_quiet()
