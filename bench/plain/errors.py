"""The one exception that means: what was asked for cannot be done."""


class CannotDo(Exception):
    """What was asked, what was seen, what to do, in one sentence; the command line turns it into exit code 4."""
