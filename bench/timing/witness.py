"""The witness: each side alone in a fresh process, whose results the shared process must have given, too.

A process cannot see by itself what two sides share in it. So each side is also imported in a process of its own. That
says what the import changed in torch and which files of the repository it read, and runs the smallest case of each
subject, whose output, gradients and executed ops must be those of the shared process.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from ..cases import Case
from ..judging.changes import compare
from ..plain.errors import CannotDo
from ..plain.execution import Fingerprint
from ..sides.side import WAY_OUT
from ..sides.source import Source
from ..sides.what import What
from ..sides.workload import Workload
from .remote import Remote, SideFailed

LABELS = ("base", "head")


@dataclass(frozen=True)
class Statement:
    """What a side gave for one case: output and gradients by name, and what it executed."""

    results: Mapping[str, Tensor]
    fingerprint: Fingerprint


@dataclass
class Witness:
    """Two processes with one side each, and the shared process's results of the cases that they will be asked about."""

    processes: Mapping[str, Remote]
    directory: Path
    cases: Mapping[str, Case] = field(default_factory=dict)  # the smallest of each subject, by subject
    given: dict[str, tuple[Workload, dict[str, Statement]]] = field(default_factory=dict)  # by case id

    def refuse_shared_imports(self) -> None:
        """Wait for both imports, and refuse a side that changes or reads what both sides share.

        Raises:
            CannotDo: one does; the message names what, and the way out.

        """
        try:
            changed = {label: self.processes[label].receive()[1] for label in LABELS}
            read = {label: self.processes[label].ask("read") for label in LABELS}
        except SideFailed as failure:
            raise CannotDo(f"{failure}: each side must import alone") from failure
        for label, other in (("head", "base"), ("base", "head")):
            # A switch that both sides turn is the same for both, but a function that both replace is replaced twice.
            shared = [one for one in changed[label] if " -> " not in one or one not in changed[other]]
            for one in shared:
                raise CannotDo(f"the {label} changes {one} when it is imported, which both sides share: {WAY_OUT}")
            for name in read[label]:
                raise CannotDo(_beside(label, name))

    def wants(self, case: Case) -> bool:
        return self.cases.get(case.subject) == case

    def note(self, workload: Workload, statements: Mapping[str, Statement]) -> None:
        """Keep what the shared process gave for a case that will be asked about.

        Compiled code is left out: compiling it again in each process would take longer than all other checks of a run.
        """
        if any(statement.fingerprint.compilation is not None for statement in statements.values()):
            return
        self.given[workload.case.id] = workload, dict(statements)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Ask both processes about every case that was kept; yield its id and how the answers differ, where they do."""
        for number, (workload, shared) in enumerate(self.given.values()):
            path = self.directory / f"{number}.pt"
            torch.save(workload, path)
            for label in shared:
                self.processes[label].send("take", path)
                self.processes[label].send("testify")
        for case_id, (_, shared) in self.given.items():
            for label, statement in shared.items():
                said = self._contradiction(label, statement)
                if said is not None:
                    yield case_id, said
        for label in LABELS if self.given else ():
            for name in self.processes[label].ask("read"):
                yield next(iter(self.given)), _beside(label, name)

    def _contradiction(self, label: str, shared: Statement) -> str | None:
        process = self.processes[label]
        try:
            process.receive()
            packed, fingerprint = process.receive()
        except SideFailed as failure:
            return f"{failure}, alone, and not beside the other side"
        results = torch.load(BytesIO(packed), weights_only=True)
        # A side that does not repeat bit for bit by itself is not held to it.
        loose: set[str] = set() if shared.fingerprint.calls is None else {*shared.fingerprint.calls.unrepeated}
        held = {name: tensor for name, tensor in shared.results.items() if name not in loose}
        differing = [name for name, tensor in held.items() if not _same(tensor.cpu(), results[name])]
        changes, notes = compare(fingerprint, replace(shared.fingerprint, calls=None))
        executed = [*changes, *(note for note in notes if note.startswith("ops "))]
        if not differing and not executed:
            return None
        what = f"gives another {differing[0]}" if differing else f"executes something else ({executed[0]})"
        return f"the {label} {what} beside the other side than alone in a process: they share something; {WAY_OUT}"


def _beside(label: str, name: str) -> str:
    top = Path(name).parts[0].removesuffix(".py")
    way = f"give --source={top}" if name.endswith(".py") else "move it into the package"
    return (
        f"the {label} reads {name}, which lies in the repository beside the source that is compared, so both sides "
        f"would read the same: {way}"
    )


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, and NaN where the other is."""
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(a.nan_to_num(), b.nan_to_num())
        and bool(torch.equal(a.isnan(), b.isnan()))
    )


def smallest(cases: Sequence[Case]) -> dict[str, Case]:
    """Choose the smallest case of each subject, with a backward pass where there is one."""
    found: dict[str, Case] = {}
    for case in sorted(cases, key=_size):
        found.setdefault(case.subject, case)
    return found


def _size(case: Case) -> tuple[bool, int]:
    shape = case.shape
    return not case.backward, shape.batch * shape.heads * shape.queries * shape.keys * shape.head_size


@contextmanager
def witness(
    base: Source, head: Source, what: What, *, repository: Path | None, threads: int, scratch: Path
) -> Iterator[Witness]:
    """Start both processes, without waiting for them; they live as long as the context, and write to ``scratch``."""
    with ExitStack() as resources:
        processes = {}
        for label, source in zip(LABELS, (base, head), strict=True):
            processes[label] = Remote(sys.executable, label, scratch)
            resources.callback(processes[label].close)
            processes[label].send("start", label, source, what, threads, (), repository)
        yield Witness(processes, scratch)
