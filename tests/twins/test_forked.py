"""Twins share nothing that either of them changes, and one that dies costs its case and no other."""

import os
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from itertools import product
from multiprocessing.connection import Pipe
from pathlib import Path
from textwrap import dedent

import pytest
from torch.utils import cpp_extension

from bench.judging.policy import Policy
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.errors import CannotDo
from bench.sources.target import SUITE
from bench.suite.forked import IMAGE, fork_examiner
from bench.twins import fork

from .conftest import CASE, Theirs, head_alone_is_off, of_batch, written

TWICE = "formula(q, k, v); " * 3 + "return formula(q, k, v)"

OF_ANY_DTYPE = "return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1).to(q.dtype) @ v"

# What the head does when it is imported, and what the base would see of it if they shared it.
CHANGES = {
    "an environment variable": ("import os; os.environ['THEIRS'] = '1'", "'THEIRS' in __import__('os').environ"),
    "the default dtype": ("torch.set_default_dtype(torch.float64)", "torch.get_default_dtype() == torch.float64"),
    "deterministic algorithms": (
        "torch.use_deterministic_algorithms(True)",
        "torch.are_deterministic_algorithms_enabled()",
    ),
    "torch's generator": ("torch.manual_seed(2357)", "torch.initial_seed() == 2357"),
    "Python's generator": ("import random; random.seed(2357); random.theirs = 1", "hasattr(random, 'theirs')"),
    "a namespace of torch": ("torch.theirs = 1", "hasattr(torch, 'theirs')"),
    "a module": ("import sys; sys.modules['theirs_common'] = torch", "'theirs_common' in __import__('sys').modules"),
    "a method of tensors": ("torch.Tensor.theirs = 1", "hasattr(torch.Tensor, 'theirs')"),
    "the working directory": ("import os; os.chdir('/')", "__import__('os').getcwd() == '/'"),
    # The first threshold is zero where the gate keeps garbage from being collected.
    "the collector": ("import gc; gc.set_threshold(700, 7)", "__import__('gc').get_threshold()[1] == 7"),
}


def test_what_the_head_changes_is_not_changed_for_the_base(theirs: Theirs) -> None:
    changes = "\n".join(change for change, _ in CHANGES.values())
    seen = f"{{name for name, seen in {[(name, seen) for name, (_, seen) in CHANGES.items()]} if eval(seen)}}"
    written(theirs.head, f"import random\n{changes}", f"assert {seen} == {set(CHANGES)}\n    {OF_ANY_DTYPE}")
    # A sleep, so that the head is loaded before the base looks.
    written(theirs.base, "import random, time; time.sleep(0.3)", f"assert {seen} == set(), {seen}\n    {OF_ANY_DTYPE}")
    assert was_compared(theirs.compare())


def was_compared(result: CaseResult) -> bool:
    """Whether both sides ran and were timed, whatever the verdict: what these kernels do beside costs time."""
    return bool(result.measurements) and result.verdict is not Verdict.ERROR


def test_a_clock_that_the_head_patches_does_not_hide_its_time(theirs: Theirs) -> None:
    patched = """
        import time
        true = time.perf_counter_ns
        time.perf_counter_ns = time.monotonic_ns = lambda: true() // 4
        time.perf_counter = time.monotonic = lambda: true() / 4e9
    """
    written(theirs.head, dedent(patched), TWICE)
    result = theirs.compare()
    assert result.verdict is Verdict.REGRESSED
    assert result.ratio is not None
    assert result.ratio > 2


def test_a_function_of_torch_that_the_head_makes_slower_is_measured(theirs: Theirs) -> None:
    written(theirs.head, "fast = torch.softmax\ntorch.softmax = lambda *a: [fast(*a) for _ in range(20)][0]")
    assert theirs.compare().verdict is Verdict.REGRESSED


OPERATORS = """
@torch.library.custom_op("theirs_ops::by_custom_op", mutates_args=())
def by_custom_op(x: torch.Tensor) -> torch.Tensor:
    return x * {factor}
library = torch.library.Library("theirs_library", "DEF")
library.define("by_library(Tensor x) -> Tensor")
library.impl("by_library", lambda x: x * {factor}, "CPU")
torch.ops.load_library({built!r})
OPS = [torch.ops.theirs_ops.by_custom_op, torch.ops.theirs_library.by_library, torch.ops.theirs_cpp.by_cpp]
"""
# By PyTorch's stable interface, whose headers compile in a quarter of the time of ATen's.
IN_CPP = """
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
volatile double factor = 1.234567;
torch::stable::Tensor by_cpp(const torch::stable::Tensor& x) {
  auto out = torch::stable::clone(x);
  auto values = static_cast<float*>(out.mutable_data_ptr());
  for (int64_t i = 0; i < out.numel(); i++) values[i] *= factor;
  return out;
}
STABLE_TORCH_LIBRARY(theirs_cpp, library) { library.def("by_cpp(Tensor x) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(theirs_cpp, CPU, library) { library.impl("by_cpp", TORCH_BOX(&by_cpp)); }
"""


def test_operators_of_one_name_are_each_side_s_own(theirs: Theirs, tmp_path: Path) -> None:
    source, built = tmp_path / "by_cpp.cpp", tmp_path / "by_cpp.so"
    source.write_text(IN_CPP)
    compiler = [os.environ.get("CXX", "c++"), "-std=c++20", "-O0", "-shared", "-fPIC"]
    places = [f"-I{place}" for place in cpp_extension.include_paths()]
    places += [f"-L{place}" for place in cpp_extension.library_paths()]
    subprocess.run([*compiler, *places, str(source), "-ltorch_cpu", "-o", str(built)], check=True)
    content, written_factor = built.read_bytes(), struct.pack("d", 1.234567)
    assert content.count(written_factor) == 1
    for folder, factor in ((theirs.base, 1.0), (theirs.head, 1.01)):  # one compilation for both, since it takes seconds
        own = folder / "by_cpp.so"
        own.write_bytes(content.replace(written_factor, struct.pack("d", factor)))
        operators = OPERATORS.format(factor=factor, built=str(own))
        written(folder, operators, "return OPS[q.shape[0] - 1](formula(q, k, v))")
    errors = theirs.errors(cases=[of_batch(number) for number in (1, 2, 3)])
    assert [head_alone_is_off(error) for error in errors] == [True] * 3


FAILURES = {
    "os.abort()": "ended in its own process by signal 6 (SIGABRT)",
    "os.kill(os.getpid(), 11)": "ended in its own process by signal 11 (SIGSEGV)",
    "os.kill(os.getpid(), 9)": "ended in its own process by signal 9 (SIGKILL, perhaps for lack of memory)",
    "os._exit(3)": "ended in its own process with exit code 3",
    "os._exit(0)": "ended in its own process with exit code 0",
    "raise_(KeyboardInterrupt())": "ended in its own process with exit code 1",
    "sys.exit(3)": "raised SystemExit: 3",
    "torch.empty(1 << 50)": "raised RuntimeError: ",  # there is not so much memory
}
WHEN = {"the check": 1, "the timing": 40}  # the number of the call


# Each way for the head; for the base two, a process that ends and an exception.
@pytest.mark.parametrize(("who", "ways"), [("head", tuple(FAILURES)), ("base", ("os.abort()", "sys.exit(3)"))])
def test_a_side_that_fails_is_an_error_that_says_how_and_the_next_case_is_compared(
    theirs: Theirs, who: str, ways: tuple[str, ...]
) -> None:
    failures = list(product(((way, FAILURES[way]) for way in ways), WHEN.values()))
    # The batch says how a case fails; a case of one item does not.
    table = [f"({number}, lambda: {action})" for (action, _), number in failures]
    failing = f"""
FAILURES = [{", ".join(table)}]
import os, sys
def raise_(error): raise error
CALLS = []
"""
    call = """CALLS.append(q.shape[0])
    if q.shape[0] > 1 and CALLS.count(q.shape[0]) == FAILURES[q.shape[0] - 2][0]: FAILURES[q.shape[0] - 2][1]()
    return formula(q, k, v)"""
    written(getattr(theirs, who), failing, call)
    with theirs.gate() as (gate, _):
        for i, ((_, said), _) in enumerate(failures):
            failed = gate.compare(of_batch(i + 2), Policy().test(1), budget_s=10.0)
            assert failed.verdict is Verdict.ERROR
            assert failed.reasons[0].startswith(f"{who} {said}")
            assert was_compared(gate.compare(CASE, Policy().test(1), budget_s=0.1))


def test_a_slowdown_is_confirmed_by_another_pair_that_is_forked_in_the_other_order(theirs: Theirs) -> None:
    with theirs.gate() as (_, sides):
        before = {sides.head, sides.base, sides.examiner}
        with sides.again() as others:
            assert others.order == sides.order[::-1]
            assert [start.shuffled for start in others.starts.values()] == [True, True]
            assert not any(start.shuffled for start in sides.starts.values())
            assert not before & {others.head, others.base, others.examiner}
            assert others.head.ask("supports", CASE)
        assert not others.head.is_alive
        assert sides.head.is_alive


def test_a_process_that_was_not_forked_from_the_image_serves_nobody() -> None:
    ours, theirs = Pipe()
    with pytest.raises(RuntimeError, match="this process was not forked from the gate's image"):
        fork._run(lambda _: None, theirs)
    ours.close()


def test_a_side_that_dies_when_it_is_loaded_again_fails_its_case_and_not_the_run(theirs: Theirs) -> None:
    marker = theirs.scratch / "loaded"
    once = f"import os, pathlib\nmarker = pathlib.Path({str(marker)!r})\n"
    once += "if marker.exists(): os._exit(5)\nmarker.touch()"
    written(theirs.head, once, "os.abort()")
    with theirs.gate() as (gate, _):
        first, second = (gate.compare(CASE, Policy().test(1), budget_s=1.0) for _ in range(2))
    assert first.reasons == ("head ended in its own process by signal 6 (SIGABRT)",)
    assert second.verdict is Verdict.ERROR
    assert second.reasons[0].startswith("head ended in its own process with exit code 5, when it was loaded")


def test_the_oracle_is_not_reached_by_what_kernels_of_its_package_do_when_they_are_imported() -> None:
    examiner = fork_examiner(1)
    try:
        examiner.receive()
        given = examiner.ask("pose", replace(CASE, subject="sdpa"), 0, {}, None)
        examiner.ask("expect")
        assert given.case.subject == "sdpa"
    finally:
        examiner.close()


def test_an_interrupt_of_the_terminal_does_not_reach_a_side(theirs: Theirs) -> None:
    written(theirs.head, "import os, signal", "os.kill(os.getpid(), signal.SIGINT)\n    return formula(q, k, v)")
    before = signal.getsignal(signal.SIGINT)  # a shell has its background processes ignore it
    assert theirs.compare().head_fingerprint is not None
    assert signal.getsignal(signal.SIGINT) is before


def test_a_system_that_cannot_fork_is_told_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(CannotDo, match="cannot do: run on Linux or macOS, or give --gate-base-python"):
        fork.start_server(IMAGE, threads=1)


def test_a_program_that_imports_what_is_compared_does_not_hand_it_to_the_base(theirs: Theirs, tmp_path: Path) -> None:
    written(theirs.head, call="return formula(q, k, v) * 1.01")
    program = f"""
        import sys
        sys.path[:0] = {[str(SUITE), str(theirs.head)]}
        import theirs.kernel
        from pathlib import Path
        from bench.suite.cases import Case, Shape
        from bench.suite import code
        from bench.sources.target import Target
        from bench.suite.forked import starts_of, twins
        from bench.suite.sides import check

        if __name__ == "__main__":
            target, scratch = Target(("theirs.kernel:attend",)), Path({str(theirs.scratch)!r})
            base = code.of_name(target, {str(theirs.base)!r}, scratch)
            codes = {{"head": code.of_working_tree(target), "base": base}}
            case = Case("attend", False, Shape.parse("b1h2t32d16"), "full", "fp32", "cpu", "fwd")
            with twins(starts_of(codes, target, ("cpu",), 1, scratch), scratch) as sides:
                print(check(sides, case, 0, with_base=True, stored=None).errors[0].bit_equal)
    """
    (tmp_path / "program.py").write_text(dedent(program))
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")
