"""Reading a stored baseline: what is refused, and how."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.plain.errors import CannotDo
from bench.plain.evidence import TensorError
from bench.plain.execution import Fingerprint, Pass
from bench.plain.strict_json import dumps
from bench.sources import baseline
from bench.sources.source import from_directory

HEAD = Path(__file__).parents[2]


@pytest.fixture
def stored() -> dict[str, Any]:
    source = from_directory(HEAD)
    return {
        "benchmarks": [{"extra_info": baseline.extra_info("sdpa-x", (TensorError("out", 1e-7, 2e-7, 5e-7),), None)}],
        baseline.KEY: baseline.our_part(source, {"threads": 1}),
    }


def test_what_is_recorded_is_read_back(tmp_path: Path, stored: dict[str, Any]) -> None:
    path = tmp_path / "0001_x.json"
    path.write_text(json.dumps(stored))
    read = baseline.read(path)
    assert read.errors == {"sdpa-x": {"out": 1e-7}}
    assert read.environment == {"threads": 1}
    assert read.source.sha256 == from_directory(HEAD).sha256
    assert read.source.origin == "baseline 0001_x.json"


def test_an_error_that_was_infinite_is_stored_as_null_and_binds_nobody(tmp_path: Path, stored: dict[str, Any]) -> None:
    far = TensorError("out", float("inf"), 2e-7, 5e-7)
    stored["benchmarks"][0]["extra_info"] = baseline.extra_info("sdpa-x", (far,), None)
    path = tmp_path / "0001_x.json"
    path.write_text(dumps(stored))
    assert "Infinity" not in path.read_text()
    assert baseline.read(path).errors == {"sdpa-x": {}}


def test_stored_errors_bind_only_on_the_same_cpu_instruction_set_and_torch(
    tmp_path: Path, stored: dict[str, Any]
) -> None:
    stored[baseline.KEY]["environment"] = {"cpu": "A", "instructions": "AVX2", "torch": "2", "os": "x"}
    path = tmp_path / "0001_x.json"
    path.write_text(json.dumps(stored))
    read = baseline.read(path)
    here = {"cpu": "A", "instructions": "AVX2", "torch": "2", "os": "y"}
    assert read.errors_in(here) == {"sdpa-x": {"out": 1e-7}}
    for other in ({"cpu": "B"}, {"instructions": "AVX512"}, {"torch": "3"}):
        assert read.errors_in(here | other) == {}
    older = replace(read, environment={"cpu": "A", "torch": "2"})  # which did not say what PyTorch used
    assert older.errors_in(here) == {"sdpa-x": {"out": 1e-7}}


FLASH = Fingerprint(Pass({"aten.x": 1}, 2, 3), backend="flash")


def test_stored_fingerprints_hold_for_the_same_torch_and_on_cuda_for_the_same_gpu(
    tmp_path: Path, stored: dict[str, Any]
) -> None:
    ids = [f"sdpa-b1h1t1d1-full-fp32-{device}-fwd" for device in ("cpu", "cuda")]
    stored["benchmarks"] = [{"extra_info": baseline.extra_info(id_, (), FLASH)} for id_ in ids]
    stored[baseline.KEY]["environment"] = {"cpu": "A", "torch": "2", "gpu": "G", "cuda": "13"}
    path = tmp_path / "0001_x.json"
    path.write_text(json.dumps(stored))
    read = baseline.read(path)
    assert read.fingerprints_in({"cpu": "B", "torch": "2", "gpu": "G", "cuda": "13"}) == dict.fromkeys(ids, FLASH)
    assert (
        set(read.fingerprints_in({"torch": "2"})) == set(read.fingerprints_in({"torch": "2", "gpu": "H"})) == {ids[0]}
    )
    assert read.fingerprints_in({"torch": "3", "gpu": "G", "cuda": "13"}) == {}


def test_a_fingerprint_of_an_older_version_counts_as_none(tmp_path: Path, stored: dict[str, Any]) -> None:
    stored["benchmarks"][0]["extra_info"]["fingerprint"] = {"ops": {}, "backend": "flash", "peak_bytes": 1}
    path = tmp_path / "0001_x.json"
    path.write_text(json.dumps(stored))
    assert baseline.read(path).fingerprints == {}
    assert baseline.read(path).errors == {"sdpa-x": {"out": 1e-7}}


def no_source(stored: dict[str, Any]) -> None:
    del stored[baseline.KEY]


def later_schema(stored: dict[str, Any]) -> None:
    stored[baseline.KEY]["schema"] = 2


def other_source(stored: dict[str, Any]) -> None:
    archive = bytearray(base64.b64decode(stored[baseline.KEY]["source_zip_base64"]))
    at = bytes(archive).index(b"attention/sdpa.py")
    archive[at : at + 9] = b"Attention"
    stored[baseline.KEY]["source_zip_base64"] = base64.b64encode(archive).decode()


def other_digest(stored: dict[str, Any]) -> None:
    digest = stored[baseline.KEY]["source_sha256"]
    stored[baseline.KEY]["source_sha256"] = digest[:-1] + ("0" if digest[-1] != "0" else "1")


def no_base64(stored: dict[str, Any]) -> None:
    stored[baseline.KEY]["source_zip_base64"] = "!"


def no_case_id(stored: dict[str, Any]) -> None:
    stored["benchmarks"][0]["extra_info"] = {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_source, "holds no source of attention/"),
        (later_schema, "has schema 2 and this version reads 1: store it anew, or use the version that wrote it"),
        (other_source, "is damaged"),
        (other_digest, "is damaged (its source does not match its digest)"),
        (no_base64, "is damaged"),
        (no_case_id, "is damaged (KeyError"),
    ],
)
def test_a_baseline_that_cannot_serve_is_refused_in_one_sentence(
    tmp_path: Path, stored: dict[str, Any], damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    damage(stored)
    path = tmp_path / "0001_x.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(CannotDo) as refused:
        baseline.read(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "{", pytest.param(100_000 * "[", id="nested"), "[]", "3", '{"benchmarks": [], "gate": 3}']
)
def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "0001_x.json"
    path.write_text(text)
    with pytest.raises(CannotDo, match="cannot be read|holds no source"):
        baseline.read(path)


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="cannot be read .*: store it anew with --benchmark-save"):
        baseline.read(tmp_path / "none.json")
