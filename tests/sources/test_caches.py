"""Where a side keeps what it compiles."""

import os
from pathlib import Path

import pytest

from bench.sources.caches import own_caches

NAMES = ("TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


@pytest.mark.parametrize("on_gpu", [False, True])
def test_no_side_finds_what_the_other_has_built_or_tuned_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, on_gpu: bool
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    places = []
    for label in ("base", "head"):
        own_caches(tmp_path / label, on_gpu=on_gpu)
        places.append({name: Path(os.environ[name]) for name in NAMES if name in os.environ})
    assert [len(place) for place in places] == [3 if on_gpu else 1] * 2
    for name, place in places[0].items():
        assert place.is_relative_to(tmp_path / "base")
        assert places[1][name].is_relative_to(tmp_path / "head")
