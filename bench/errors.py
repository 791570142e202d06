"""The one exception that means: the comparison that was asked for cannot be made."""


class CannotCompare(Exception):
    """What was asked, what was seen, what to do, in one sentence; the command line turns it into exit code 4."""
