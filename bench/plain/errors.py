"""The exceptions for what cannot be done as asked."""


class CannotDo(Exception):
    """What was asked, what was seen, what to do, in one sentence; the command line turns it into exit code 4."""


class CannotGoOn(Exception):
    """The machine refuses what the rest of a run needs; the message is as that of ``CannotDo``, and the run ends so."""
