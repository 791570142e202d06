"""``python -m bench.commands.comment DIR``: keeps one comment on a pull request, from the files of the gate's run.

It has a token that may write, and reads files from a job that ran a stranger's code, so it trusts none of them: they
must be regular files of bounded size; the number must name a pull request whose head is the commit that was measured;
verdicts are checked value by value, escaped, and written anew. It imports only the standard library and rooms that do
so too. Whether the gate passed comes from GitHub; only the figures come from the report.
"""

import argparse
import os
import re
import stat
import sys
from pathlib import Path

from ..judging.run import Run
from ..plain.errors import CannotDo
from ..report.as_markdown import as_markdown
from ..report.escaping import clip, command_data, markdown
from ..report.from_json import from_json
from .github import GitHub, Refused

MARKER = "<!-- attention gate: this comment is kept up to date -->"
DISOWNED = "The report below is about an earlier commit, which its last line names."
NUMBER = "pull-request"
REPORT = "reports/gate.json"
NUMBER_BYTES = 16
REPORT_BYTES = 32 * 2**20
REFUSAL = 1000  # characters of a refusal that a comment shows
COMMENT_BYTES = 60_000  # GitHub takes 65,536 characters; the frame needs some


def main(arguments: list[str] | None = None) -> int:
    """Write or update the comment; returns the exit code: 0 done, 4 refused, with one sentence that says why."""
    parser = argparse.ArgumentParser(prog="python -m bench.commands.comment", description=main.__doc__)
    parser.add_argument("directory", type=Path, help=f"the gate's artifact: {NUMBER} and, if it got so far, {REPORT}")
    parser.add_argument("--head", required=True, metavar="SHA", help="the commit that the gate's run was for")
    parser.add_argument(
        "--conclusion", required=True, choices=("success", "failure", "cancelled"), help="how that run ended"
    )
    parser.add_argument("--link", required=True, metavar="URL", help="the page of that run")
    options = parser.parse_args(arguments)
    try:
        if options.conclusion == "cancelled":
            disown(_github(), options.head, options.link)
        else:
            publish(_github(), options.directory, options.head, options.conclusion, options.link)
    except Refused as error:
        print(f"error: {command_data(str(error))}", file=sys.stderr)
        return 4
    return 0


def publish(github: GitHub, directory: Path, head: str, conclusion: str, link: str) -> None:
    """Write the comment of a run for a commit. If the report is refused, the comment is renewed and says so.

    Raises:
        Refused: the pull request is not at this commit, the report cannot be used, or GitHub refused a request.

    """
    number = pull_request(directory)
    now = github.head_sha(number)
    if now != head:
        raise Refused(
            f"pull request {number} is at {now} and the gate's run was for {head!r}: nothing is written; "
            "the run for its newest commit will comment"
        )
    refusal = None
    try:
        body = compose(verdicts(directory), head, conclusion, link)
    except Refused as error:
        refusal = error
        body = compose(None, head, conclusion, link, refusal)
    comment = github.own_comment(number, MARKER)
    if comment is None:
        github.create_comment(number, body)
    else:
        github.update_comment(comment[0], body)
    if refusal is not None:
        raise refusal


def disown(github: GitHub, head: str, link: str) -> None:
    """Say in a pull request's comment that its newest commit's run was cancelled, so the verdict is an older one's.

    A run that was cancelled because of a newer commit changes nothing: the newer commit has a run of its own.

    Raises:
        Refused: the commit or the link is malformed, or GitHub refused a request.

    """
    _check(head, link)
    for number in github.pull_requests_at(head):
        comment = github.own_comment(number, MARKER)
        if comment is None:
            continue
        own, body = comment
        verdict = re.sub(rf"^\s*> [^\n]*{re.escape(DISOWNED)}\s*", "", body.removeprefix(MARKER)).lstrip()
        notice = (
            f"> **The newest commit, {head}, has no verdict yet**: [its run]({link}) was cancelled. "
            "Run it again, unless another run has started."
        )
        github.update_comment(own, f"{MARKER}\n\n{notice} {DISOWNED}\n\n{verdict}")


def _check(head: str, link: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{40}", head) or not re.fullmatch(r"https?://[\w.:-]+/[\w./-]+", link, re.ASCII):
        raise Refused(f"{head!r} and {link!r} should be a commit and the address of a run: pass GitHub's own")


def _github() -> GitHub:
    try:
        token, repository = os.environ["GITHUB_TOKEN"], os.environ["GITHUB_REPOSITORY"]
    except KeyError as error:
        raise Refused(f"{error} is not set: set it as a workflow does") from error
    return GitHub(os.environ.get("GITHUB_API_URL", "https://api.github.com"), repository, token)


def pull_request(directory: Path) -> int:
    """Read the pull request's number.

    Raises:
        Refused: the file is missing, or holds anything but the digits of a number.

    """
    text = read(directory, NUMBER, NUMBER_BYTES)
    if text is None or not re.fullmatch(r"[1-9][0-9]{0,9}\n?", text):
        raise Refused(f"{NUMBER} holds {text!r}, not the number of a pull request: look at the gate's run")
    return int(text)


def verdicts(directory: Path) -> Run | None:
    """Read the run's verdicts; None where the gate ended before it wrote them.

    Raises:
        Refused: the file is not an ordinary one, is too large, or holds something else.

    """
    text = read(directory, REPORT, REPORT_BYTES)
    try:
        return None if text is None else from_json(text)
    except CannotDo as error:
        raise Refused(f"{REPORT} in the artifact: {error}") from error


def read(directory: Path, name: str, limit_bytes: int) -> str | None:
    """Read a text file of the artifact; None if it is not there.

    Raises:
        Refused: it is reached through a link, is not a regular file, is too large, or is not UTF-8.

    """
    path = directory.resolve() / name
    if not os.path.lexists(path):
        return None
    if path.resolve() != path or not stat.S_ISREG(path.lstat().st_mode):
        raise Refused(f"{name} in the artifact is not an ordinary file: look at the gate's run")
    with path.open("rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise Refused(f"{name} in the artifact is over {limit_bytes} bytes: look at the gate's run")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"{name} in the artifact is not UTF-8: look at the gate's run") from error


def compose(run: Run | None, head: str, conclusion: str, link: str, refusal: Refused | None = None) -> str:
    """Return the text of the comment: the verdicts as the job's summary has them, and where they come from.

    Raises:
        Refused: the commit or the link is malformed, or the report holds figures that cannot be written out.

    """
    _check(head, link)
    parts = [MARKER]
    if run is None:
        refused = f"and its report is refused: {markdown(clip(str(refusal), REFUSAL))}"
        why = "before it had a verdict" if refusal is None else refused
        parts.append(f"## Regression gate: no verdict\n\nThe run ended with {conclusion} {why}.")
    else:
        if (run.exit_code == 0) != (conclusion == "success"):
            parts.append(
                f"> **Warning:** the run ended with {conclusion}, but its report says otherwise: read the log."
            )
        try:
            parts.append(as_markdown(run, COMMENT_BYTES))
        except (ArithmeticError, ValueError) as error:
            kind = type(error).__name__
            raise Refused(f"{REPORT} in the artifact has figures that cannot be written out ({kind})") from error
    parts.append(f"<sub>Measured by the pull request's own code at {head}. [Log and reports]({link})</sub>")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
