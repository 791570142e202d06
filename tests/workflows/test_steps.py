"""The workflows' own steps, executed: the gate's jobs on a base and a head, the comment, the baseline, the GPU job."""

import json
import shutil
from pathlib import Path
from typing import Any

from bench.sources import baseline

REPOSITORY = Path(__file__).parents[2]

# One case a part, forward, and forward with backward; certain soon, whatever else the machine does.
QUICK = "-k 'sdpa-b1h4t64d32-full-fp32-cpu' --gate-threshold=20% -p no:cacheprovider"
# Wrong by 1% with gradients: of two cases, one is as it was and one has drifted.
EDIT = """
import torch
from .registry import KERNELS, Kernel

right = sdpa.function

def changed(*args, **kwargs):
    out = right(*args, **kwargs)
    return 1.01 * out if torch.is_grad_enabled() else out

KERNELS["sdpa"] = Kernel("sdpa", changed, sdpa.capabilities)
"""
WRONG = "sdpa-b1h4t64d32-full-fp32-cpu-fwdbwd"
LINE = EDIT.splitlines().index("def changed(*args, **kwargs):")


def propose(runner: Any, edit: str) -> int:
    """Commit a head on top of the base; returns the line on which its kernel then is."""
    path = runner.remote / "attention" / "sdpa.py"
    lines = len(path.read_text().splitlines())
    path.write_text(path.read_text() + edit)
    runner.commit("head")
    return lines + LINE + 1


def test_the_part_with_a_wrong_case_fails_the_whole_and_is_shown_where_it_is_written(runner: Any, hub: Any) -> None:
    line = propose(runner, EDIT)
    runner.variables["PYTEST_ADDOPTS"] = QUICK
    parts = [runner.run("gate", "measure", {"matrix.shard": shard, "github.run_attempt": 1}) for shard in (1, 2)]
    assert sorted(part.exit_code for part in parts) == [0, 1], parts[0].output + parts[1].output
    for part in parts:
        note = f"\n::error file=attention/sdpa.py,line={line},title=sdpa%3A 1 DRIFTED::{WRONG}: "
        assert part.output.count("::error") == part.output.count(note) == part.exit_code, part.output
    verdict = runner.run("gate", "verdict", {"github.event.pull_request.number": 7})
    assert verdict.exit_code == 1, verdict.output
    headline = "## Regression gate: FAIL, 1 DRIFTED of 2 compared cases"
    assert verdict.summary.startswith(headline)
    assert "- **DRIFTED**: " in verdict.summary
    report = json.loads((runner.artifact("gate") / "reports" / "gate.json").read_text())
    assert report["exit_code"] == 1
    assert report["summary"] == {"DRIFTED": 1, "UNCHANGED": 1}
    assert "HEAD^1" in report["base"]["origin"]
    assert report["base"]["source_sha256"] != report["head"]["source_sha256"]
    assert "<html" in (runner.artifact("gate") / "reports" / "gate.html").read_text()

    head = hub.head = runner.git("rev-parse", "HEAD")
    runner.variables = hub.variables
    event = "github.event.workflow_run."
    given = {
        "id": 5,
        "head_sha": head,
        "conclusion": "failure",
        "html_url": "https://github.example/o/r/actions/runs/5",
    }
    comment = runner.run("comment", "comment", {event + k: v for k, v in given.items()} | {"github.token": "secret"})
    assert comment.exit_code == 0, comment.output
    (written,) = hub.comments
    assert headline in written["body"]


def test_a_part_that_ends_without_verdicts_fails_the_whole(runner: Any) -> None:
    runner.variables["PYTEST_ADDOPTS"] = "-c no-such-file"
    part = runner.run("gate", "measure", {"matrix.shard": 1, "github.run_attempt": 1})
    assert part.exit_code == 4, part.output
    verdict = runner.run("gate", "verdict", {"github.event.pull_request.number": 7})
    assert verdict.exit_code == 4, verdict.output
    assert (runner.artifact("gate") / "pull-request").read_text() == "7\n"


KERNEL = """
import torch
def mine(q, k, v, *, mask, causal, scale):
    if mask is not None: raise NotImplementedError("a mask")
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
"""
CONFIG = """kernels = ["called:mine"]
[[row]]
shapes = "b1h4t64d32"
masks = "full"
directions = "fwd"
"""


def test_another_repository_s_kernel_passes_where_it_is_by_calling_the_workflow(runner: Any, tmp_path: Path) -> None:
    suite = runner.remote.rename(tmp_path / "the-suite")
    runner.remote.mkdir()
    (runner.remote / "called.py").write_text(KERNEL)
    (runner.remote / "gate.toml").write_text(CONFIG)
    runner.git("init", "-q", "-b", "main")
    runner.commit("base")
    (runner.remote / "called.py").write_text(KERNEL + "\n")
    runner.commit("head")
    inputs = {
        "suite": suite, "suite-commit": "main", "install": '"$PYTHON" -c "import called"', "config": "gate.toml",
        "threshold": "20%", "tier": "pr", "base": "HEAD^1",
    }  # fmt: skip
    given = {f"inputs.{name}": value for name, value in inputs.items()} | {"github.run_attempt": 1}
    done = runner.run("elsewhere", "gate", given)
    assert done.exit_code == 0, done.output
    assert "## Regression gate: PASS, no slowdown of 20%" in done.summary
    assert "::error" not in done.output
    report = json.loads((runner.artifact("gate-1") / "gate.json").read_text())
    assert [case["id"] for case in report["cases"]] == ["mine-b1h4t64d32-full-fp32-cpu-fwd"]


def test_any_benchmarks_are_gated_where_they_are_by_calling_the_workflow(runner: Any, tmp_path: Path) -> None:
    (runner.remote / ".gitignore").write_text(".venv*/\n")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, runner.remote)
    runner.commit("what the wheel needs")
    suite = runner.remote.rename(tmp_path / "the-suite")
    runner.remote.mkdir()
    test = "import m\n\ndef test_f(benchmark):\n    benchmark(m.f)\n"
    foreign = "raise RuntimeError('not the gate')\n"  # where the gate has modules of these names
    files = {"m.py": "def f():\n    return 1\n", "test_f.py": test, "bench.py": foreign, "attention.py": foreign}
    for name, text in files.items():
        (runner.remote / name).write_text(text)
    (runner.remote / "conftest.py").touch()
    runner.git("init", "-q", "-b", "main")
    runner.commit("base")
    (runner.remote / "m.py").write_text("def f():\n    return 2\n")
    runner.commit("head")
    inputs = {
        "suite": suite, "suite-commit": "main", "install": "true", "tests": "test_f.py", "threshold": "50%",
        "base": "HEAD^1",
    }  # fmt: skip
    given = {f"inputs.{name}": value for name, value in inputs.items()} | {"github.run_attempt": 1}
    done = runner.run("benchmarks", "gate", given)
    assert done.exit_code == 1, done.output
    assert "## Regression gate: FAIL, 1 DRIFTED of 1" in done.summary
    assert "::error file=test_f.py,line=3,title=test_f.py%3A%3Atest_f%3A 1 DRIFTED" in done.output
    report = json.loads((runner.artifact("gate-1") / "gate.json").read_text())
    assert [case["id"] for case in report["cases"]] == ["test_f.py::test_f"]


def test_main_s_baseline_is_measured_and_stored_on_its_branch(runner: Any) -> None:
    runner.git("switch", "-q", "--orphan", "baselines")
    runner.git("commit", "-q", "--allow-empty", "-m", "Baselines")
    runner.git("switch", "-q", "main")
    runner.variables["PYTEST_ADDOPTS"] = "-k 'sdpa-b1h4t64d32-full-fp32-cpu' --benchmark-max-time=0.01"
    sha = runner.git("rev-parse", "HEAD")
    measured = runner.run("baseline", "measure", {"github.sha": sha})
    assert measured.exit_code == 0, measured.output
    stored = runner.run("baseline", "store")
    assert stored.exit_code == 0, stored.output
    assert runner.git("log", "-1", "--format=%s %an", "baselines") == f"Store the baseline of {sha} github-actions[bot]"
    (name,) = runner.git("ls-tree", "-r", "--name-only", "baselines").splitlines()
    assert name.endswith(f"/0001_{sha}.json")
    assert baseline.KEY in json.loads(runner.git("show", f"baselines:{name}"))


def test_the_gpu_job_fails_on_a_machine_without_a_gpu_instead_of_skipping_everything(runner: Any) -> None:
    # What the option does is shown in test_options.py; here, that each step gives it and fails with it.
    runner.python = '#!/bin/sh\ncase "$*" in *--device=cuda*) echo refused: "$*"; exit 4;; esac\n'
    done = runner.run("gpu", "gpu", {"github.event.before": "0" * 40})
    assert done.exit_code == 4
    assert [line.split()[:4] for line in done.output.splitlines() if line.startswith("refused: ")] == [
        ["refused:", "-m", "pytest", "tests/"],
        ["refused:", "-m", "pytest", "bench/"],
        ["refused:", "-m", "bench", "selftest"],
    ]


def test_main_s_history_page_is_drawn_from_the_stored_baselines(runner: Any) -> None:
    runner.git("switch", "-q", "--orphan", "baselines")
    (runner.remote / "Linux").mkdir()
    for number, stored in enumerate(sorted((REPOSITORY / ".benchmarks").rglob("*.json")), 1):
        shutil.copy(stored, runner.remote / "Linux" / f"{number:04}_{'a' * 40}.json")
    runner.commit("Baselines")
    runner.git("switch", "-q", "main")
    page = runner.run("baseline", "page")
    assert page.exit_code == 0, page.output
    assert "sdpa-b1h4t64d32-full-fp32-cpu-fwd" in (runner.artifact("github-pages") / "index.html").read_text()
