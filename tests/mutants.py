"""Ask the tests of a file which wrong edits of it they would pass, and print those: see MUTATIONS.md for the command.

cosmic-ray writes edits with its operators, and ``_own`` adds some. Each edited text takes the file's place in a process
that is forked from one that has imported what the tests need, so an edit costs the tests and not torch's import.
"""

import argparse
import ast
import difflib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import count
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from cosmic_ray.mutating import mutate_code  # type: ignore[import-not-found]  # MUTATIONS.md installs it
from cosmic_ray.operators.provider import OperatorProvider  # type: ignore[import-not-found]  # likewise

PATIENCE = 5  # times what the tests take without any edit; if they take longer, they have noticed it
# For None and members of an enum, `==` says the same as `is`, and `<` is an edit that nobody makes.
SENSELESS = re.compile("ReplaceComparisonOperator_Is(Not)?_(?!Is)")


def edits(text: str) -> Iterator[tuple[str, str]]:
    """Name each operator with the edited text; texts that do not compile, and repeated ones, are left out."""
    seen = {text}
    for name, edited in (*_cosmic_ray(text), *_own(text)):
        if edited not in seen:
            seen.add(edited)
            with suppress(SyntaxError):
                compile(edited, "", "exec")
                yield name, edited


def _cosmic_ray(text: str) -> Iterator[tuple[str, str]]:
    provider = OperatorProvider()
    for name in sorted(provider):
        if SENSELESS.match(name) or provider[name].arguments():  # these replace variables that a caller must name
            continue
        for occurrence in count():
            edited = mutate_code(text, provider[name](), occurrence)
            if edited is None:
                break
            yield name, edited


def _own(text: str) -> Iterator[tuple[str, str]]:
    """Leave out a statement, keyword, operand, element or call; conditions that always or never hold."""
    raw = text.encode()
    starts = [0, *(at + 1 for at, byte in enumerate(raw) if byte == ord("\n"))]

    def span(node: Any) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    nodes = [*ast.walk(ast.parse(text))]
    annotations = [getattr(node, field, None) for node in nodes for field in ("annotation", "returns")]
    unread = {node for annotation in annotations if annotation is not None for node in ast.walk(annotation)}
    for node in nodes:
        for name, old, new in () if node in unread else (*_conditions(node), *_left_out(node, text)):
            start, end = span(old)
            after = raw[end:] if new else raw[end:].lstrip().removeprefix(b",")  # an element goes with its comma
            yield name, (raw[:start] + new.encode() + after).decode()


def _conditions(node: ast.AST) -> Iterator[tuple[str, ast.AST, str]]:
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield from (("Always", test, "True"), ("Never", test, "False"))
        case ast.comprehension(ifs=tests):
            yield from (("LeaveOutFilter", test, "True") for test in tests)


def _left_out(node: ast.AST, text: str) -> Iterator[tuple[str, ast.AST, str]]:
    source = partial(ast.get_source_segment, text)
    match node:
        case ast.Expr(value=ast.Constant()):  # a docstring
            return
        case ast.Expr() | ast.Return() | ast.Assign() | ast.AugAssign() | ast.Raise():
            yield "LeaveOutStatement", node, "pass"
        case ast.BoolOp(op=op, values=values):
            word = " and " if isinstance(op, ast.And) else " or "
            for value in values:
                yield "LeaveOutOperand", node, f"({word.join(str(source(v)) for v in values if v is not value)})"
        case ast.BinOp(left=left, right=right):
            yield from (("LeaveOutOperand", node, f"({source(side)})") for side in (left, right))
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            yield from (("LeaveOutElement", element, "") for element in elements if len(elements) > 1)
        case ast.Call(func=function, args=arguments, keywords=keywords):
            yield from (("LeaveOutKeyword", keyword, "") for keyword in keywords)
            yield from (("LeaveOutCall", node, f"({source(a)})") for a in arguments if not isinstance(a, ast.Starred))
            if isinstance(function, ast.Attribute):
                yield "LeaveOutMethod", node, f"({source(function.value)})"


class Edited(SourceFileLoader):
    """Finds and loads the module of the file, with the edited text."""

    def __init__(self, file: Path, text: str) -> None:
        super().__init__(".".join(file.with_suffix("").parts), str(file.absolute()))
        self.text = text

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, _: str) -> CodeType:
        return compile(self.text, self.path, "exec")


def passes(file: Path, text: str, tests: list[str], limit_s: float = 0) -> bool:
    """Run the tests in a process of their own, in which the file has this text; 0 is no limit of time."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            signal.setitimer(signal.ITIMER_REAL, limit_s)  # which ends this process
            silent = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(silent, stream)
            sys.meta_path.insert(0, Edited(file, text))
            status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started
    return status == 0


def _forget(folders: list[Path]) -> None:
    """Forget what was imported from these, so that the next import reads it again."""
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if name != "__main__" and file and any(Path(file).is_relative_to(folder) for folder in folders):
            del sys.modules[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("tests", nargs="+")
    given = parser.parse_args()
    pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *given.tests])  # imports what they need
    _forget([Path.cwd() / part for part in (given.file.parts[0], "tests", "conftest.py")])
    text = given.file.read_text(encoding="utf-8")
    start = time.monotonic()
    if not passes(given.file, text, given.tests):
        raise SystemExit("the tests fail without any edit")
    limit_s = PATIENCE * (time.monotonic() - start)
    asked, survived = 0, 0
    for name, edited in edits(text):
        asked += 1
        if passes(given.file, edited, given.tests, limit_s):
            survived += 1
            changed = [*difflib.unified_diff(text.splitlines(), edited.splitlines(), n=0, lineterm="")][2:]
            print(f"{given.file}: {name}", *changed, sep="\n", flush=True)
    print(f"{given.file}: {asked} edits, {survived} passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
