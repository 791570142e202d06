"""The few requests to GitHub's API that keep one comment on a pull request up to date. Standard library only."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BOT = "github-actions[bot]"  # whose comments a workflow's token writes
PAGE = 100
PAGES = 100
TIMEOUT_S = 30


class Refused(Exception):
    """What was asked, what was seen, what to do, in one sentence."""


@dataclass(frozen=True)
class GitHub:
    """A repository as the API shows it to a token."""

    api_url: str
    repository: str  # owner/name
    token: str

    def head_sha(self, pull_request: int) -> str:
        """Return the commit that a pull request proposes now."""
        found = self._ask("GET", f"pulls/{pull_request}")
        return str(found["head"]["sha"])

    def pull_requests_at(self, commit: str) -> list[int]:
        """Return the numbers of the open pull requests that propose a commit now, forks' included."""
        found = self._ask("GET", f"commits/{commit}/pulls")
        return [int(each["number"]) for each in found if each["state"] == "open" and each["head"]["sha"] == commit]

    def own_comment(self, pull_request: int, marker: str) -> tuple[int, str] | None:
        """Return id and text of the workflow's own comment that begins with the marker; others' do not count."""
        for comment in self._comments(pull_request):
            author, body = comment.get("user") or {}, comment.get("body") or ""
            if author.get("login") == BOT and author.get("type") == "Bot" and body.startswith(marker):
                return int(comment["id"]), body
        return None

    def create_comment(self, pull_request: int, body: str) -> None:
        self._ask("POST", f"issues/{pull_request}/comments", {"body": body})

    def update_comment(self, comment: int, body: str) -> None:
        self._ask("PATCH", f"issues/comments/{comment}", {"body": body})

    def _comments(self, pull_request: int) -> Iterator[Any]:
        for page in range(1, PAGES + 1):
            found = self._ask("GET", f"issues/{pull_request}/comments?per_page={PAGE}&page={page}")
            yield from found
            if len(found) < PAGE:
                return

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        """Make one request and return its JSON.

        Raises:
            Refused: no answer, an error, or no JSON.

        """
        request = urllib.request.Request(  # noqa: S310  # the address is the runner's own, not the pull request's
            f"{self.api_url}/repos/{self.repository}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  # likewise
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read(500).decode(errors="replace")
            raise Refused(
                f"{method} {path} was answered with {error.code}, {said!r}: "
                "check that the job has `pull-requests: write`, or run it again"
            ) from error
        except (OSError, ValueError) as error:
            raise Refused(f"{method} {path} got no answer that can be read ({error}): run it again") from error
