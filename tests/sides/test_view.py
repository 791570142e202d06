"""Two versions of one package in one process: each finds its own modules, resources and operators."""

import importlib
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bench.checking.op_trace import OpTrace
from bench.plain.errors import CannotDo
from bench.sides import libraries, operators
from bench.sides.view import View, speaking, untagged

# Each way in which kernels register an operator, with the way in which it is called; {f} tells the versions apart.
OPERATORS = {
    "a custom op, called as an object": """
        @torch.library.custom_op("{ns}::attend", mutates_args=())
        def attend(x: torch.Tensor) -> torch.Tensor: return x * {f}
        def call(x): return attend(x)
    """,
    "a custom op, called by its name": """
        @torch.library.custom_op("{ns}::attend", mutates_args=())
        def attend(x: torch.Tensor) -> torch.Tensor: return x * {f}
        def call(x): return torch.ops.{ns}.attend(x)
    """,
    "an overload, called by its name": """
        @torch.library.custom_op("{ns}::attend", mutates_args=())
        def attend(x: torch.Tensor) -> torch.Tensor: return x * {f}
        def call(x): return torch.ops.{ns}.attend.default(x)
    """,
    "a custom op imported from torch.library, its gradient registered by name": """
        from torch.library import custom_op, register_autograd, register_fake
        @custom_op("{ns}::attend", mutates_args=())
        def attend(x: torch.Tensor) -> torch.Tensor: return x.clone()
        register_fake("{ns}::attend", torch.empty_like)
        register_autograd("{ns}::attend", lambda ctx, g: g * {f}, setup_context=lambda ctx, inputs, output: None)
        def call(x):
            x = x.clone().requires_grad_()
            return torch.autograd.grad(torch.ops.{ns}.attend(x).sum(), x)[0]
    """,
    "a library of fragments": """
        library = torch.library.Library("{ns}", "FRAGMENT")
        library.define("attend(Tensor x) -> Tensor")
        library.impl("attend", lambda x: x * {f}, "CPU")
        def call(x): return torch.ops.{ns}.attend(x)
    """,
    "a library that is alone in its namespace, and another for kernels": """
        library = torch.library.Library("{ns}", "DEF")
        library.define("attend(Tensor x) -> Tensor")
        kernels = torch.library.Library("{ns}", "IMPL", "CPU")
        kernels.impl("attend", lambda x: x * {f})
        def call(x): return torch.ops.{ns}.attend(x)
    """,
    "functions that take the name": """
        torch.library.define("{ns}::attend", "(Tensor x) -> Tensor")
        @torch.library.impl("{ns}::attend", "cpu")
        def attend(x): return x * {f}
        def call(x): return torch.ops.{ns}.attend(x)
    """,
    "registered unless it is there": """
        if not hasattr(torch.ops.{ns}, "attend"):
            torch.library.define("{ns}::attend", "(Tensor x) -> Tensor")
            torch.library.impl("{ns}::attend", "cpu", lambda x: x * {f})
        def call(x): return torch.ops.{ns}.attend(x)
    """,
    "a kernel registered for a device": """
        @torch.library.custom_op("{ns}::attend", mutates_args=(), device_types="cuda")
        def attend(x: torch.Tensor) -> torch.Tensor: raise AssertionError
        torch.library.register_kernel("{ns}::attend", "cpu", lambda x: x * {f})
        def call(x): return torch.ops.{ns}.attend(x)
    """,
    "an op for Triton": """
        from torch.library import triton_op
        @triton_op("{ns}::attend", mutates_args=())
        def attend(x: torch.Tensor) -> torch.Tensor: return x * {f}
        def call(x): return torch.ops.{ns}.attend(x)
    """,
    "registered at the first call": """
        def call(x):
            if not hasattr(torch.ops.{ns}, "late"):
                torch.library.custom_op("{ns}::late", lambda x: x * {f}, mutates_args=(), schema="(Tensor x) -> Tensor")
            return torch.ops.{ns}.late(x)
    """,
    "inside torch.compile": """
        @torch.library.custom_op("{ns}::attend", mutates_args=())
        def attend(x: torch.Tensor) -> torch.Tensor: return x * {f}
        attend.register_fake(torch.empty_like)
        call = torch.compile(lambda x: torch.ops.{ns}.attend(x) + 0, backend="aot_eager", fullgraph=True)
    """,
}

MODULES = {
    "by import_module": "import importlib; found = importlib.import_module('twice.inner').F",
    "by an absolute import": "import twice.inner; found = twice.inner.F",
    "from the package": "from twice import inner; found = inner.F",
    "in sys.modules": "import sys, twice.inner; found = sys.modules['twice'].inner.F",
    "as a resource": "from importlib.resources import files; found = files('twice').joinpath('f.txt').read_text()",
    "as package data": "import pkgutil; found = pkgutil.get_data('twice', 'f.txt').decode()",
    "in a second module beside it": "import beside; found = beside.F",
}

Sides = dict[str, tuple[View, ModuleType]]
NUMBERS = count()  # operators cannot be taken back, so each test has a namespace of its own


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Sides]]:
    """Import a package twice from this text: as head, where the process finds it, and as base, in a view of its own."""
    namespace = f"twice{next(NUMBERS)}"
    monkeypatch.syspath_prepend(tmp_path / "head")

    def imported(text: str) -> Sides:
        for label, f in (("head", "1.01"), ("base", "1.0")):
            package = tmp_path / label / "twice"
            package.mkdir(parents=True, exist_ok=True)
            (package / "__init__.py").write_text(text.replace("{f}", f).replace("{ns}", namespace))
            (package / "inner.py").write_text(f"F = '{f}'\n")
            (package / "f.txt").write_text(f)
            (tmp_path / label / "beside.py").write_text(f"F = '{f}'\n")
        operators.watch()
        libraries.watch()
        head = importlib.import_module("twice")
        base_view = View(["twice", "beside"], tmp_path / "base")
        with base_view:
            base = importlib.import_module("twice")
        return {"head": (View(["twice", "beside"]), head), "base": (base_view, base)}

    yield imported
    for name in [name for name in sys.modules if name.partition(".")[0] in ("twice", "beside")]:
        del sys.modules[name]


def dedented(text: str) -> str:
    lines = text.strip("\n").splitlines()
    return "import torch\n" + "\n".join(line.removeprefix("        ") for line in lines) + "\n"


@pytest.mark.parametrize("text", OPERATORS.values(), ids=OPERATORS)
def test_each_side_calls_the_operators_that_it_registered(sides: Callable[[str], Sides], text: str) -> None:
    loaded, seen = sides(dedented(text)), list[float]()
    for label in ("head", "base", "head"):
        view, module = loaded[label]
        with view:
            seen.append(round(module.call(torch.ones(1)).item(), 4))
    assert seen == [1.01, 1.0, 1.01]


@pytest.mark.parametrize("asking", MODULES.values(), ids=MODULES)
def test_each_side_finds_its_own_modules_and_resources_at_the_call(sides: Callable[[str], Sides], asking: str) -> None:
    body = "\n".join(f"    {line}" for line in asking.split("; "))
    loaded = sides(f"def call():\n{body}\n    return found\n")
    for label, expected in (("head", "1.01"), ("base", "1.0"), ("head", "1.01")):
        view, module = loaded[label]
        with view:
            assert module.call() == expected


def test_the_process_is_as_it_was_outside_of_views(sides: Callable[[str], Sides]) -> None:
    loaded = sides(dedented(OPERATORS["a custom op, called by its name"]))
    (head_view, head), (base_view, _) = loaded["head"], loaded["base"]
    before, path, ops = dict(sys.modules), list(sys.path), dict(vars(torch.ops))
    for view in (base_view, head_view, base_view):
        with view, view:  # a view may be entered again inside of itself
            importlib.import_module("twice.inner")
    assert {name: m for name, m in sys.modules.items() if name in before} == before
    assert (sys.path, vars(torch.ops)) == (path, ops)
    assert sys.modules["twice"] is head


def test_a_view_is_left_when_the_side_raises(sides: Callable[[str], Sides]) -> None:
    view, base = sides("def call(): raise ValueError('inside')\n")["base"]
    head = sys.modules["twice"]
    with pytest.raises(ValueError, match="inside"), view:
        base.call()
    assert sys.modules["twice"] is head
    assert speaking() is None


def test_what_a_side_replaces_among_its_modules_stays_its_own(sides: Callable[[str], Sides]) -> None:
    view, base = sides("import sys\ndef call(): sys.modules['twice.inner'] = 'replaced'\n")["base"]
    with view:
        base.call()
    assert "twice.inner" not in sys.modules
    with view:
        assert sys.modules["twice.inner"] == "replaced"  # type: ignore[comparison-overlap]  # a side may put anything


def test_other_packages_operators_go_where_they_belong(sides: Callable[[str], Sides], tmp_path: Path) -> None:
    (tmp_path / "base").mkdir(exist_ok=True)
    third = tmp_path / "head" / "third_party.py"
    third.parent.mkdir(exist_ok=True)
    third.write_text(
        "import torch\n@torch.library.custom_op('third::op', mutates_args=())\n"
        "def op(x: torch.Tensor) -> torch.Tensor: return x + 1\n"
    )
    loaded = sides("import torch, third_party\ndef call(x): return torch.ops.third.op(x)\n")
    for view, module in loaded.values():
        with view:
            assert module.call(torch.ones(1)).item() == 2


def test_a_namespace_holds_the_operators_of_others_too(sides: Callable[[str], Sides]) -> None:
    text = """
        torch.library.custom_op("aten_like::mine", lambda x: x * {f}, mutates_args=(), schema="(Tensor x) -> Tensor")
        def call(x): return torch.ops.aten_like.mine(x) + torch.ops.aten_like.others(x)
    """
    others = torch.library.Library("aten_like", "FRAGMENT")
    others.define("others(Tensor x) -> Tensor")
    others.impl("others", lambda x: x, "CPU")
    loaded = sides(dedented(text))
    for label, expected in (("base", 2.0), ("head", 2.01)):
        view, module = loaded[label]
        with view:
            assert round(module.call(torch.ones(1)).item(), 4) == expected


@pytest.mark.parametrize(
    "text",
    [
        "torch.library.Library('aten', 'IMPL').impl('sin', lambda x: x, 'CPU')",
        "torch.library.impl('aten::sin', 'cpu', lambda x: x)",
        "torch.library.register_kernel('third::op', 'cpu', lambda x: x)",
    ],
)
def test_a_base_that_changes_the_operators_of_others_is_refused(sides: Callable[[str], Sides], text: str) -> None:
    with pytest.raises(CannotDo, match="operators of the namespace '(aten|third)', which it does not define: both"):
        sides(f"import torch\nif {{f}} == 1.0:\n    {text}\n")


@pytest.mark.parametrize("load", ["import ctypes; ctypes.CDLL(path)", "import torch; torch.ops.load_library(path)"])
def test_a_library_that_registers_operators_is_refused_before_it_is_loaded(
    sides: Callable[[str], Sides], tmp_path: Path, load: str
) -> None:
    library = tmp_path / "kernels.so"
    library.write_bytes(b"\x7fELF...\0_ZN5torch7LibraryC1ENS0_4KindE\0")
    text = f"if {{f}} == 1.0:\n    path = {str(library)!r}\n    {load}\n"
    with pytest.raises((CannotDo, OSError)) as refused:
        sides(text)
    errors: list[BaseException | None] = [refused.value, refused.value.__cause__, refused.value.__context__]
    (refusal, *_) = [error for error in errors if isinstance(error, CannotDo)]
    assert "loads kernels.so, a compiled library that registers operators" in str(refusal)


def test_an_extension_module_that_registers_operators_is_refused(sides: Callable[[str], Sides], tmp_path: Path) -> None:
    ending = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / "base" / "twice").mkdir(parents=True)
    (tmp_path / "base" / "twice" / f"_kernels{ending}").write_bytes(b"\x7fELF\0_ZN5torch7LibraryC2ENS0_4KindE\0")
    with pytest.raises(CannotDo, match="_kernels.*registers operators"):
        sides("if {f} == 1.0:\n    from . import _kernels\n")


def test_a_recorded_op_is_named_as_its_side_wrote_it(sides: Callable[[str], Sides]) -> None:
    loaded = sides(dedented(OPERATORS["a custom op, called by its name"]))
    names, x = [], torch.ones(1)
    for view, module in loaded.values():
        with view, (trace := OpTrace()).watching():
            module.call(x)
        names.append([op for op in trace.end_pass().ops if op.startswith("twice")])
    assert names[0] == names[1]
    assert len(names[0]) == 1
    assert untagged("twice__gate12.attend") == "twice.attend"


def test_only_the_side_s_own_code_speaks_for_it(sides: Callable[[str], Sides]) -> None:
    loaded = sides("from bench.sides.view import speaking\ndef call(): return speaking()\n")
    for view, module in loaded.values():
        assert module.call() is None
        with view:
            assert module.call() is view
            assert speaking() is None


def test_the_functions_that_take_an_operator_s_name_are_all_watched() -> None:
    operators.watch()
    taking: list[Any] = [getattr(torch.library, name) for name in dir(torch.library) if name.startswith("register_")]
    taking += [torch.library.custom_op, torch.library.define, torch.library.impl, torch.library.impl_abstract]
    assert all(function.__code__.co_filename == operators.__file__ for function in taking)
