"""``python -m bench study``: measure every table of the study, part by part, and write the page and the Markdown."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import attention

from ..plain.arguments import DEFAULT_THREADS, SECONDS, THREADS
from ..plain.errors import CannotDo
from ..plain.files import check_writable, write_atomically
from ..plain.strict_json import dumps
from ..sources import source
from ..timing import environment
from ..timing.clock import Clock
from ..timing.machine_load import LoadMeter
from . import report
from .measuring import Setting
from .parts import Part, parts
from .results import Results, Series
from .subjects import kernels

BUDGET_S = 500.0  # for all parts; with imports, inputs and drawing, a run stays under ten minutes
DIRECTORY = Path("reports") / "study"
LEAST = 0.1  # of its fair share, which a part gets even if earlier ones have spent all the time


def add_command(commands: Any) -> None:
    """Declare ``study`` among the commands of the command line."""
    parser = commands.add_parser("study", help="measure the tables of the study that the project grew out of")
    parser.add_argument("--output", type=Path, default=DIRECTORY, metavar="DIR", help="default %(default)s")
    SECONDS.declare(parser, "--time-limit", f"{BUDGET_S:g}", "of measuring")
    parser.add_argument("--device", choices=("cpu", "cuda", "all"), default="all", help="default %(default)s")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    parser.add_argument("--kernel", action="append", metavar="NAME", help="only this kernel; repeatable (default all)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure all parts and write the report, and beside it every value as JSON.

    Raises:
        CannotDo: no such kernel or device here, or a place that cannot be written.

    """
    devices = _check(options)
    record = environment.describe(environment.hold_still(options.threads))
    meter, start = LoadMeter(), time.monotonic()
    results = measure([p for device in devices for p in parts(device, kernels(options.kernel))], options.time_limit)
    load = meter.read()
    package = source.from_directory(Path(attention.__file__ or "").parent).sha256[:16]
    record |= {
        "attention": f"source {package}",
        "measuring": f"{time.monotonic() - start:.0f} s of parts, time limit {options.time_limit:g} s",
        "other load": f"{load.other_cores:.2f} of {load.cores} cores, and {load.stolen_cores:.2f} stolen",
    }
    values = {"environment": record, "series": [_as_json(series) for series in results.series]}
    write_atomically(options.output / "study.json", dumps(values))
    made = report.make(results, devices, record)
    report.write(made, options.output)
    print(f"{made.summary}\n{options.output / report.PAGE}\n{options.output / report.TEXT}")


def _check(options: argparse.Namespace) -> tuple[str, ...]:
    """Refuse what cannot be done, before minutes are spent; returns the devices to measure."""
    unknown = [name for name in options.kernel or [] if name not in attention.KERNELS]
    if unknown:
        raise CannotDo(f"no kernel is named {', '.join(unknown)}: choose among {', '.join(attention.KERNELS)}")
    if options.device != "all":
        environment.check_device(options.device)
    check_writable(options.output / report.PAGE)
    return environment.present_devices() if options.device == "all" else (options.device,)


def _as_json(series: Series) -> dict[str, object]:
    case = series.case
    name = f"{case.shape}-{case.mask}-{case.dtype}-{case.direction}"
    return {**vars(series), "device": case.device, "subject": case.subject, "case": name}


def measure(parts: Sequence[Part], budget_s: float) -> Results:
    """Measure each part in its share of the time that is left."""
    results = Results()
    total = sum(part.weight for part in parts)
    end = time.monotonic() + budget_s
    with tqdm(total=total, bar_format="{l_bar}{bar}| {elapsed}{postfix}") as bar:
        for i, part in enumerate(parts):
            bar.set_postfix_str(str(part))
            share_s = (end - time.monotonic()) * part.weight / sum(p.weight for p in parts[i:])
            share_s = max(share_s, LEAST * budget_s * part.weight / total)
            setting = Setting(part.name, Clock.of(part.cases[0].device), share_s, results)
            with torch.set_grad_enabled(any(case.backward for case in part.cases)):
                results = Results((*results.series, *part.measure(part.cases, setting)))
            bar.update(part.weight)
    return results
