"""Rules that keep the workflows safe and right; each says whether the texts of the workflows keep it.

``make lint`` runs zizmor, which holds the rest: no trigger that gives a pull request the base's rights, and no
expression inside a command. A write permission with a comment beside it passes zizmor, so permissions have a rule here.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

Texts = dict[str, str]  # name of a workflow -> what its file holds
HOSTED = "ubuntu-24.04"
READ = {"contents": "read"}
MORE = {  # jobs that need more than to read; any other right, there or elsewhere, is one too many
    "comment/comment": READ | {"actions": "read", "pull-requests": "write"},
    "baseline/store": {"contents": "write"},
    "baseline/publish": {"pages": "write", "id-token": "write"},
}
CALLED = ["benchmarks/gate", "elsewhere/gate"]  # jobs that other repositories call
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def _load(text: str) -> Any:
    return yaml.load(text, yaml.CSafeLoader)


def workflows(texts: Texts) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each workflow's name, what starts it, and the document; YAML reads the key ``on`` as True."""
    for name, text in texts.items():
        document = _load(text)
        yield name, document[True], document


def jobs(texts: Texts) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each job's name, what starts it, and the job."""
    for name, starts, document in workflows(texts):
        for job_name, job in document["jobs"].items():
            yield f"{name}/{job_name}", starts, job


def steps(texts: Texts, action: str = "") -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each step with its job's name and the job: those that run a command, or those of an action."""
    for name, _, job in jobs(texts):
        for step in job["steps"]:
            if step.get("uses", "").startswith(f"actions/{action}@") if action else "run" in step:
                yield name, step, job


def for_strangers(starts: dict[str, Any]) -> bool:
    return any(event.startswith("pull_request") or event == "workflow_call" for event in starts)


def writes(job: dict[str, Any]) -> bool:
    return "write" in job["permissions"].values()


def code(texts: Texts) -> str:
    """The texts without their comments: YAML knows where a # begins one."""
    return yaml.dump_all(map(_load, texts.values()), Dumper=yaml.CSafeDumper, width=2**31 - 1)


def base_and_head_are_measured_by_one_command(texts: Texts) -> bool:
    gates = [step["run"] for _, step, _ in steps(texts) if "--gate-json" in step["run"] and "pytest" in step["run"]]
    return len(gates) == 4 and all('--gate-base="$BASE"' in run for run in gates)


def the_base_is_fetched(texts: Texts) -> bool:
    needing = {name for name, step, _ in steps(texts) if "--gate-base" in step["run"]}
    return needing <= {name for name, step, _ in steps(texts, "checkout") if step["with"].get("fetch-depth") == 0}


def a_step_is_one_command_whose_exit_code_is_kept(texts: Texts) -> bool:
    return not any(
        re.search(r"[|;&\n]|set [+-]", step["run"].strip()) or "shell" in step for _, step, _ in steps(texts)
    ) and "continue-on-error" not in code(texts)


def permissions_are_nothing_but_what_a_job_needs(texts: Texts) -> bool:
    return all(document["permissions"] == {} for _, _, document in workflows(texts)) and all(
        job["permissions"] == MORE.get(name, READ) for name, _, job in jobs(texts)
    )


def no_secret_is_named_anywhere(texts: Texts) -> bool:
    return not re.search(r"\bsecrets\b", code(texts), re.IGNORECASE)


def the_token_is_given_only_to_the_comment(texts: Texts) -> bool:
    others = code({name: text for name, text in texts.items() if name != "comment"})
    # github['token'] and toJSON(github) hold it too: of that context only the other names may be used, after a dot.
    held = re.compile(r"\bgithub\b(?!\.(?!token\b)\w)", re.IGNORECASE)
    return not any(held.search(expression) for expression in re.findall(r"\$\{\{(.*?)\}\}", others, re.DOTALL))


def credentials_stay_in_no_checkout_but_the_one_that_pushes(texts: Texts) -> bool:
    return all(
        step["with"]["persist-credentials"] is (job["permissions"].get("contents") == "write")
        for _, step, job in steps(texts, "checkout")
    )


def no_command_writes_to_the_runner_s_own_files(texts: Texts) -> bool:
    return not any(re.search(r"GITHUB_(OUTPUT|ENV|PATH|STATE)|::set-", step["run"]) for _, step, _ in steps(texts))


def the_verdict_is_a_summary_with_notes_and_files(texts: Texts) -> bool:
    gates = "".join(step["run"] for name, step, _ in steps(texts) if name.startswith("gate/"))
    needed = ('--markdown="$GITHUB_STEP_SUMMARY"', "--gate-annotations", "--json=", "--html=")
    kept = [step["with"]["path"] for name, step, _ in steps(texts, "upload-artifact") if name == "gate/verdict"]
    return all(option in gates for option in needed) and len(kept) == 1 and "reports/" in kept[0]


def every_part_of_the_gate_is_run(texts: Texts) -> bool:
    document = _load(texts["gate"])
    parts = document["jobs"]["measure"]["strategy"]["matrix"]["shard"]
    return bool(parts == list(range(1, document["env"]["SHARDS"] + 1)))


def the_comment_follows_every_gate_of_a_pull_request_cancelled_or_not(texts: Texts) -> bool:
    document = _load(texts["comment"])
    wanted = {"workflow_run": {"workflows": [_load(texts["gate"])["name"]], "types": ["completed"]}}
    condition = document["jobs"]["comment"]["if"]
    parts = ("github.event.workflow_run.event == 'pull_request'", '["success", "failure", "cancelled"]')
    return document[True] == wanted and all(part in condition for part in parts)


def what_may_write_has_nothing_of_a_pull_request(texts: Texts) -> bool:
    safe = all(
        not writes(job) or set(starts) <= {"push", "workflow_dispatch", "workflow_run"}
        for _, starts, job in jobs(texts)
    )
    refs = {step["with"].get("ref") for _, step, job in steps(texts, "checkout") if writes(job)}
    foreign = any("repository" in step["with"] for _, step, job in steps(texts, "checkout") if writes(job))
    return safe and refs <= {None, "baselines"} and not foreign


def another_repository_s_code_comes_from_where_its_caller_says(texts: Texts) -> bool:
    found = [(name, step["with"]) for name, step, _ in steps(texts, "checkout") if "repository" in step["with"]]
    return [name for name, _ in found] == CALLED and all(
        given["repository"] == "${{ inputs.suite }}" and given["ref"] == "${{ inputs.suite-commit }}"
        for _, given in found
    )


def another_repository_s_verdict_is_a_summary_with_notes_and_files(texts: Texts) -> bool:
    runs = [s["run"] for name, s, _ in steps(texts) if name in CALLED and "pytest" in s["run"]]
    needed = ('--gate-markdown="$GITHUB_STEP_SUMMARY"', "--gate-annotations", "--gate-json=", "--gate-html=")
    kept = [step["with"]["path"] for name, step, _ in steps(texts, "upload-artifact") if name in CALLED]
    return all(option in run for run in runs for option in needed) and kept == ["reports/"] * len(CALLED)


def what_may_write_installs_nothing_and_runs_one_known_thing(texts: Texts) -> bool:
    known = ("python -m bench.commands.comment ", "git add", "git commit", "git pull", "git push")
    return all(step["run"].startswith(known) for _, step, job in steps(texts) if writes(job))


def a_stranger_s_files_stay_out_of_the_checkout_that_is_run(texts: Texts) -> bool:
    fetched = [step["with"] for name, step, _ in steps(texts, "download-artifact") if name.startswith("comment/")]
    return all(each["path"].startswith("${{ runner.temp }}/") for each in fetched)


def actions_are_pinned_by_commit_with_their_version(texts: Texts) -> bool:
    used = [
        line.partition("uses:")[2].strip() for text in texts.values() for line in text.splitlines() if "uses:" in line
    ]
    pins = {each.partition("@")[0]: each for each in used}
    return all(PINNED.fullmatch(each) for each in used) and set(used) == set(pins.values())


def a_job_ends_in_time(texts: Texts) -> bool:
    return all(1 <= job["timeout-minutes"] <= 60 for _, _, job in jobs(texts))


def a_newer_push_to_a_pull_request_stops_the_older_run(texts: Texts) -> bool:
    return all(
        "github.event.pull_request.number" in document["concurrency"]["group"]
        and document["concurrency"]["cancel-in-progress"] is True
        for _, starts, document in workflows(texts)
        if for_strangers(starts)
    )


def every_push_to_a_pull_request_is_gated_and_tested(texts: Texts) -> bool:
    filters = {name: starts["pull_request"] for name, starts, _ in workflows(texts) if name in ("gate", "tests")}
    return filters == {"gate": {"types": ["opened", "synchronize", "reopened", "edited"]}, "tests": None}


def a_verdict_is_never_skipped_since_a_skipped_check_counts_as_passed(texts: Texts) -> bool:
    found = {name: (job.get("needs"), job.get("if")) for name, _, job in jobs(texts) if name.startswith("gate/")}
    return found == {"gate/measure": (None, None), "gate/verdict": ("measure", "${{ !cancelled() }}")}


def each_entry_of_a_merge_queue_is_gated_against_its_own_base(texts: Texts) -> bool:
    queued = {name: document for name, starts, document in workflows(texts) if "merge_group" in starts}
    (base,) = {step["env"]["BASE"] for name, step, _ in steps(texts) if name == "gate/measure" and "env" in step}
    unique = all(
        "github.event.merge_group.head_sha" in document["concurrency"]["group"]
        or "github.sha" in document["concurrency"]["group"]
        for document in queued.values()
    )
    return (
        set(queued) == {"gate", "tests"}
        and unique
        and bool(base.startswith("${{ github.event.merge_group.base_sha || "))
    )


def every_push_to_main_is_measured(texts: Texts) -> bool:
    # Of those that wait in a group GitHub keeps the newest alone, so each has a group of its own.
    document = _load(texts["baseline"])
    return bool(document["concurrency"] == {"group": "baseline-${{ github.sha }}", "cancel-in-progress": False})


def a_push_whose_last_commit_is_unknown_has_another_base(texts: Texts) -> bool:
    (base,) = {
        step["env"]["BASE"] for name, step, _ in steps(texts) if name == "gpu/gpu" and "BASE" in step.get("env", {})
    }
    return bool(base == "${{ github.event.before }} HEAD^1")


def comments_on_two_pull_requests_do_not_wait_for_each_other(texts: Texts) -> bool:
    # Of those that wait in a group GitHub keeps the newest alone. The event does not number a fork's pull request.
    group = _load(texts["comment"])["concurrency"]["group"]
    own = ("${{ github.event.workflow_run.head_repository.full_name }}", "${{ github.event.workflow_run.head_branch }}")
    return all(part in group for part in own)


def comments_and_baselines_are_written_one_after_the_other(texts: Texts) -> bool:
    return all(
        document["concurrency"]["cancel-in-progress"] is False
        for name, _, document in workflows(texts)
        if any(writes(job) for job in document["jobs"].values())
    )


def an_own_runner_is_ephemeral_and_waits_for_a_maintainer(texts: Texts) -> bool:
    called = "${{ inputs.runner }}"  # its caller's to choose
    own = [
        (starts, job)
        for _, starts, job in jobs(texts)
        if job["runs-on"] != (called if "workflow_call" in starts else HOSTED)
    ]
    events = {"push": {"branches": ["main"]}, "workflow_dispatch": None, "pull_request": {"types": ["labeled"]}}
    condition = "github.event_name != 'pull_request' || github.event.label.name == 'gpu'"
    return len(own) == 1 and all(
        starts == events and job["runs-on"] == ["self-hosted", "gpu", "ephemeral"] and job["if"] == condition
        for starts, job in own
    )


def the_gpu_job_asks_for_a_gpu_in_every_command(texts: Texts) -> bool:
    return all(
        "--device=cuda" in step["run"]
        for name, step, _ in steps(texts)
        if name == "gpu/gpu" and "pytest" in step["run"]
    )


def a_throttled_gpu_is_noticed(texts: Texts) -> bool:
    return "make install-gpu" in {step["run"] for name, step, _ in steps(texts) if name == "gpu/gpu"}


def the_history_that_is_published_is_judged(texts: Texts) -> bool:
    install, draw = (step["run"] for name, step, _ in steps(texts) if name == "baseline/page")
    return bool(install == "make install-history" and draw.startswith(".venv-history/bin/python -m bench history "))


def every_test_is_run(texts: Texts) -> bool:
    run = {step["run"] for name, step, _ in steps(texts) if name.startswith("tests/")}
    return {"make test", "make test-history", "make test-instruction-sets"} <= run


def baselines_are_of_main_alone(texts: Texts) -> bool:
    document = _load(texts["baseline"])
    only = document["jobs"]["measure"]["if"] == "github.ref == 'refs/heads/main'"
    return bool(only and document[True]["push"] == {"branches": ["main"]})
