"""Each rule holds for the workflows, and sees an edit that breaks it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from . import rules
from .rules import Texts

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
TEXTS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.yml"))}

# Rule -> edits that break it: the workflow, a text of it, and what is put in the place of its first occurrence.
BREAKS: dict[Callable[[Texts], bool], tuple[tuple[str, str, str], ...]] = {
    rules.base_and_head_are_measured_by_one_command: (
        ("gate", '--gate-base="$BASE"', "--benchmark-compare"),
        ("elsewhere", '--gate-base="$BASE"', "--benchmark-compare"),
    ),
    rules.the_base_is_fetched: (
        ("gate", "fetch-depth: 0", "fetch-depth: 1"),
        ("elsewhere", "fetch-depth: 0", "fetch-depth: 1"),
    ),
    rules.a_step_is_one_command_whose_exit_code_is_kept: (
        ("gate", '"shards/$SHARD-$ATTEMPT.json"', '"shards/$SHARD-$ATTEMPT.json" | tee log'),
        ("tests", "run: make test\n", "run: make test || true\n"),
        ("tests", "run: make test\n", "run: |\n          make test\n          ls\n"),
        ("gate", "- name: Compare", "- continue-on-error: true\n        name: C"),
    ),
    rules.permissions_are_nothing_but_what_a_job_needs: (
        ("gate", "contents: read", "contents: write # to push"),
        ("tests", "contents: read", "pull-requests: write"),
        ("elsewhere", "contents: read", "contents: write"),
        ("tests", "permissions: {}", "permissions: read-all"),
        ("gpu", "permissions:\n      contents: read", "permissions: write-all"),
        ("comment", "contents: read", "contents: read\n      id-token: write"),
        ("comment", "contents: read", "contents: read\n      packages: write"),
        ("comment", "contents: read", "contents: read\n      deployments: write"),
        ("baseline", "contents: write #", "actions: write\n      contents: write #"),
    ),
    rules.no_secret_is_named_anywhere: (
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", "BASE: ${{ secrets.BASE }}"),
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", "BASE: ${{ SECRETS.BASE }}"),
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", 'BASE: "x # ${{ secrets.BASE }}"'),
    ),
    rules.the_token_is_given_only_to_the_comment: (
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", "BASE: ${{ github.token }}"),
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", "BASE: ${{ GitHub.Token }}"),
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", "BASE: ${{ github['token'] }}"),
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", "BASE: ${{ toJSON(github) }}"),
        ("gate", "BASE: ${{ github.event.merge_group.base_sha || 'HEAD^1' }}", 'BASE: "x # ${{ github.token }}"'),
    ),
    rules.credentials_stay_in_no_checkout_but_the_one_that_pushes: (
        ("gate", "credentials: false", "credentials: true"),
        ("elsewhere", "credentials: false", "credentials: true"),
        ("comment", "credentials: false", "credentials: true"),
    ),
    rules.no_command_writes_to_the_runner_s_own_files: (("gate", "> pull-request", '>> "$GITHUB_ENV"'),),
    rules.the_verdict_is_a_summary_with_notes_and_files: (
        ("gate", " --gate-annotations", ""),
        ("gate", '--markdown="$GITHUB_STEP_SUMMARY"', ""),
        ("gate", "            reports/\n", ""),
    ),
    rules.every_part_of_the_gate_is_run: (
        ("gate", "shard: [1, 2]", "shard: [1]"),
        ("gate", "SHARDS: 2", "SHARDS: 3"),
    ),
    rules.the_comment_follows_every_gate_of_a_pull_request_cancelled_or_not: (
        ("comment", "workflows: [gate]", "workflows: [tests]"),
        ("comment", "event == 'pull_request'", "event == 'push'"),
        ("comment", ', "cancelled"', ""),
    ),
    rules.what_may_write_has_nothing_of_a_pull_request: (
        ("comment", "credentials: false", "credentials: false\n          ref: x"),
        ("comment", "credentials: false", "credentials: false\n          repository: x/y"),
        ("baseline", "  push:", "  pull_request:\n  push:"),
    ),
    rules.another_repository_s_code_comes_from_where_its_caller_says: (
        ("elsewhere", "repository: ${{ inputs.suite }}", "repository: x/y"),
        ("benchmarks", "repository: ${{ inputs.suite }}", "repository: x/y"),
        ("elsewhere", "ref: ${{ inputs.suite-commit }}", "ref: main"),
        ("gate", "credentials: false", "credentials: false\n          repository: x/y"),
    ),
    rules.another_repository_s_verdict_is_a_summary_with_notes_and_files: (
        ("elsewhere", " --gate-annotations", ""),
        ("benchmarks", " --gate-annotations", ""),
        ("elsewhere", '--gate-markdown="$GITHUB_STEP_SUMMARY"', ""),
        ("elsewhere", "path: reports/", "path: theirs/"),
    ),
    rules.what_may_write_installs_nothing_and_runs_one_known_thing: (
        ("comment", "python -m bench.commands.comment", "make test #"),
        ("baseline", "run: git push", "run: make push"),
    ),
    rules.a_stranger_s_files_stay_out_of_the_checkout_that_is_run: (("comment", "${{ runner.temp }}/gate", "."),),
    rules.actions_are_pinned_by_commit_with_their_version: (
        ("gate", "3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "v7"),
        ("comment", " # v8.0.1", ""),
        ("gate", "# v8.0.1", "# v8.0.2"),
    ),
    rules.a_job_ends_in_time: (
        ("gate", "timeout-minutes: 30", "timeout-minutes: 360"),
        ("elsewhere", "timeout-minutes: 60", "timeout-minutes: 360"),
    ),
    rules.a_newer_push_to_a_pull_request_stops_the_older_run: (
        ("gate", "in-progress: true", "in-progress: false"),
        ("elsewhere", "in-progress: true", "in-progress: false"),
        ("tests", "github.event.pull_request.number || ", ""),
    ),
    rules.every_push_to_a_pull_request_is_gated_and_tested: (
        ("gate", "types: [opened, synchronize, ", "types: [opened, "),
        ("gate", ", edited]", "]"),
        ("gate", "  pull_request:", "  pull_request:\n    paths: [attention/**]"),
        ("tests", "  pull_request:", "  pull_request:\n    branches: [main]"),
    ),
    rules.a_verdict_is_never_skipped_since_a_skipped_check_counts_as_passed: (
        ("gate", "if: ${{ !cancelled() }} # a part", "if: ${{ success() }} # a part"),
        ("gate", "if: ${{ !cancelled() }} # a part", "if: ${{ !cancelled() && github.event.changes.base }} # a part"),
        ("gate", "    needs: measure\n", ""),
        ("gate", "    name: measure part", "    if: github.event.changes.base\n    name: measure part"),
    ),
    rules.each_entry_of_a_merge_queue_is_gated_against_its_own_base: (
        ("gate", "  merge_group:\n", ""),
        ("tests", "  merge_group:\n", ""),
        ("gate", " || github.event.merge_group.head_sha", ""),
        ("gate", "github.event.merge_group.base_sha || ", ""),
    ),
    rules.every_push_to_main_is_measured: (("baseline", "baseline-${{ github.sha }}", "baseline"),),
    rules.a_push_whose_last_commit_is_unknown_has_another_base: (("gpu", "before }} HEAD^1", "before }}"),),
    rules.comments_on_two_pull_requests_do_not_wait_for_each_other: (
        ("comment", "group: comment-", "group: comment # -"),
        ("comment", "-${{ github.event.workflow_run.head_branch }}", ""),
        ("comment", "-${{ github.event.workflow_run.head_repository.full_name }}", ""),
    ),
    rules.comments_and_baselines_are_written_one_after_the_other: (
        ("comment", "in-progress: false", "in-progress: true"),
    ),
    rules.an_own_runner_is_ephemeral_and_waits_for_a_maintainer: (
        ("gpu", ", ephemeral]", "]"),
        ("gpu", "[labeled]", "[labeled, synchronize]"),
        ("gpu", " == 'gpu'", " != ''"),
        ("gate", "runs-on: ubuntu-24.04", "runs-on: [self-hosted]"),
        ("gate", "runs-on: ubuntu-24.04", "runs-on: ${{ inputs.runner }}"),
        ("elsewhere", "runs-on: ${{ inputs.runner }}", "runs-on: [self-hosted]"),
        ("gate", "runs-on: ubuntu-24.04", "runs-on: {group: gpus}"),
        ("tests", "runs-on: ubuntu-24.04", "runs-on: gpu"),
        ("tests", "runs-on: ubuntu-24.04", "runs-on: [gpu, linux]"),
    ),
    rules.the_gpu_job_asks_for_a_gpu_in_every_command: (("gpu", "-m cuda --device=cuda", "-m cuda"),),
    rules.a_throttled_gpu_is_noticed: (("gpu", "make install-gpu", "make install"),),
    rules.the_history_that_is_published_is_judged: (
        ("baseline", "make install-history", "make install"),
        ("baseline", ".venv-history/bin", ".venv/bin"),
    ),
    rules.every_test_is_run: (
        ("tests", "run: make test\n", "run: make lint\n"),
        ("tests", "run: make test-history", "run: make test"),
        ("tests", "run: make test-instruction-sets", "run: make test"),
    ),
    rules.baselines_are_of_main_alone: (("baseline", "branches: [main]", "branches: ['**']"),),
}
EDITS = [(rule, *edit) for rule, edits in BREAKS.items() for edit in edits]


@pytest.mark.parametrize("rule", BREAKS, ids=lambda rule: rule.__name__)
def test_the_workflows_keep_the_rule(rule: Callable[[Texts], bool]) -> None:
    assert rule(TEXTS)


@pytest.mark.parametrize(("rule", "workflow", "old", "new"), EDITS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_rule_sees_an_edit_that_breaks_it(rule: Callable[[Texts], bool], workflow: str, old: str, new: str) -> None:
    assert old in TEXTS[workflow]
    assert not rule({**TEXTS, workflow: TEXTS[workflow].replace(old, new, 1)})


def test_every_rule_is_in_the_table() -> None:
    judging = {"texts": Texts, "return": bool}
    assert [each for each in vars(rules).values() if getattr(each, "__annotations__", 0) == judging] == list(BREAKS)
