"""What an entry of the waivers' file does to a whole run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import BASE, ONE, Bench


@pytest.fixture
def write_waivers(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let runs read an entry from a file of their own."""

    def write(entry: str) -> None:
        path = pytester.path / "waivers.toml"
        path.write_text(entry)
        monkeypatch.setattr("bench.judging.waivers.WAIVERS", path)

    return write


def test_a_waived_slowdown_passes_and_is_shown_as_such(
    bench: Bench, pytester: pytest.Pytester, edit: Callable[[str, str], Path], write_waivers: Callable[[str], None]
) -> None:
    write_waivers("[[waiver]]\ncase = 'sdpa-*'\nratio = 4.0\nreason = 'wanted'\nexpires = 2999-01-01\n")
    edit(
        "sdpa",
        "from .registry import KERNELS, Kernel\nright = sdpa\n"
        "def thrice(*a, **k):\n    return [right.function(*a, **k) for _ in range(3)][0]\n"
        "KERNELS['sdpa'] = Kernel('sdpa', thrice, right.capabilities)",
    )
    result = bench(BASE, "--gate-pairs=pairs.json")
    assert result.ret == 0
    assert "(1 WAIVED)" in result.outlines[-1]
    assert any("accepted up to half the threshold above 4 until 2999-01-01: wanted" in line for line in result.outlines)
    assert (pytester.path / "pairs.json").exists()


def test_a_case_that_has_its_own_threshold_says_so(bench: Bench, write_waivers: Callable[[str], None]) -> None:
    write_waivers("[[threshold]]\ncase = 'sdpa-*'\nthreshold = 0.5\nreason = 'tiny'\nexpires = 2999-01-01\n")
    result = bench(BASE)
    assert result.ret == 0
    (row,) = [line for line in result.outlines if line.startswith(f"{ONE} ")]
    assert "UNCHANGED" in row
    assert row.endswith("has its own threshold, 50% until 2999-01-01: tiny")
