"""How parties answer: what went wrong is told with the side's name, and a process that ended with how it ended."""

import errno
import pickle
import signal
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo, CannotGoOn
from bench.twins import party
from bench.twins.party import Local, Misbehaved, Remote, SideFailed, Unsupported, dumps, full_disk_answered


class Obeying:
    """Raises or returns what it is told to."""

    def do(self, outcome: object) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.mark.parametrize(
    ("outcome", "kind", "said"),
    [
        (ValueError("on purpose"), SideFailed, "base raised ValueError: on purpose"),
        (SystemExit(3), SideFailed, "base raised SystemExit: 3"),
        (Misbehaved("wrote to its inputs"), SideFailed, "base wrote to its inputs"),
        (Unsupported("only causal"), Unsupported, "only causal"),
        (CannotDo("the base has no kernels"), CannotDo, "the base has no kernels"),
        (KeyboardInterrupt("by the user"), KeyboardInterrupt, "by the user"),
    ],
)
def test_what_goes_wrong_is_told_with_the_side_s_name_where_the_side_is_to_blame(
    outcome: BaseException, kind: type[BaseException], said: str
) -> None:
    with pytest.raises(kind) as raised:
        Local("base", Obeying()).ask("do", outcome)
    assert str(raised.value) == said


def test_answers_come_in_the_order_of_the_commands() -> None:
    side = Local("base", Obeying())
    side.send("do", 1)
    side.send("do", 2)
    assert (side.receive(), side.receive()) == (1, 2)


class Far:
    """The other end of a remote party: a process that only pretends."""

    def __init__(self, status: int | None) -> None:
        ours, self.theirs = Pipe()
        self.status, self.killed = status, False
        self.remote = Remote("head", ours, lambda: self.status, self._kill)

    def _kill(self) -> None:
        self.killed = True

    def answer(self, outcome: str, value: object) -> None:
        self.theirs.send_bytes(pickle.dumps((outcome, value)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE_S", "EVERY_S", "_LOOK_S"):
        monkeypatch.setattr(party, name, 0.01)


def test_an_answer_from_another_process_is_that_of_a_side_in_this_one() -> None:
    far = Far(None)
    far.answer("done", 7)
    assert far.remote.ask("do", 7) == 7
    far.answer("failed", "raised ValueError: on purpose")
    with pytest.raises(SideFailed, match="^head raised ValueError: on purpose$"):
        far.remote.ask("do")
    far.answer("exhausted", "no room is left")
    with pytest.raises(CannotGoOn, match="^no room is left$"):
        far.remote.ask("do")
    assert pickle.loads(far.theirs.recv_bytes()) == ("do", (7,))  # noqa: S301  # its own
    assert far.remote.is_alive


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "with exit code 0"),
        (7, "with exit code 7"),
        (-11, r"by signal 11 \(SIGSEGV\)"),
        (-9, r"by signal 9 \(SIGKILL, perhaps for lack of memory\)"),
        (-signal.SIGBUS, r"by signal \d+ \(SIGBUS, perhaps for lack of room on a disk\)"),
        (None, "without an exit code"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_process_that_ends_is_told_with_how_it_ended(status: int | None, said: str) -> None:
    far = Far(status)
    far.theirs.close()
    with pytest.raises(SideFailed, match=f"^head ended in its own process {said}$"):
        far.remote.receive()
    assert far.killed
    assert not far.remote.is_alive


@pytest.mark.usefixtures("impatient")
def test_a_process_that_ends_while_a_child_of_it_holds_the_connection_has_ended() -> None:
    far = Far(1)
    with pytest.raises(SideFailed, match="^head ended in its own process with exit code 1$"):
        far.remote.receive()


@pytest.mark.usefixtures("impatient")
def test_a_process_that_does_not_answer_in_time_is_ended() -> None:
    far = Far(None)
    with pytest.raises(SideFailed, match=r"^head did not answer for 0\.01 s in its own process: it hangs, or compiles"):
        far.remote.receive()
    assert far.killed


def test_a_process_that_ends_because_the_disk_is_full_says_so() -> None:
    far = Far(1)
    with full_disk_answered(far.theirs):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(CannotGoOn, match=r"cannot write its own files \(No space left on device\): set TMPDIR to"):
        far.remote.receive()
    with pytest.raises(FileNotFoundError), full_disk_answered(far.theirs):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")


def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    far = Far(1)
    far.remote.hang_up()
    party.answer(far.theirs, "done", None)


def test_a_path_is_read_by_a_python_that_has_its_class_in_another_module() -> None:
    sent = dumps({"folder": Path("a") / "b"})
    assert pickle.loads(sent) == {"folder": Path("a") / "b"}  # noqa: S301  # our own
    assert b"pathlib" not in sent
