"""What tests of several rooms need: our warnings as errors, one thread, small sources, a browser, a GPU or a reason."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from bench.sides.repository import NAMING_A_REPOSITORY

# Not in pyproject.toml, which counts for `pytest bench/` too: there a kernel that warns is to get its verdict.
OUR_WARNINGS = (r"error:::(attention|attention_base|bench|tests)(\.|$)", "error::pytest.PytestWarning")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_configure(config: pytest.Config) -> None:
    for name in NAMING_A_REPOSITORY:  # a hook or a linked worktree sets them, and git would work on that repository
        os.environ.pop(name, None)
    for warning in OUR_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


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
def browser() -> Iterator[Browser]:
    """The system's chromium without a window, one for all tests of a worker."""
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


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open a page from a file, offline; afterwards it must not have complained, or asked for anything else."""
    contexts, complaints, requests = [], [], []

    def opened(text: str, **settings: Any) -> Page:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(offline=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) <= {(tmp_path / "page.html").as_uri()}
