"""The exception for what cannot be done as asked."""


class CannotDo(Exception):
    """What was asked, what was seen, what to do, in one sentence; the command line turns it into exit code 4."""
