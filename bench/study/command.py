"""``python -m bench study``: measure every table of the study, part by part, and write the page and the Markdown."""

import argparse
import inspect
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tqdm import tqdm

import attention

from ..plain.arguments import DEFAULT_THREADS, SECONDS, THREADS
from ..plain.errors import CannotDo
from ..sides import source, workload
from ..timing import clock, environment, measure
from ..timing.machine_load import LoadMeter
from . import (
    every_kernel,
    faults,
    fresh,
    left_out,
    long_context,
    multi_head,
    published,
    report,
    sampling,
    setting,
    single_head,
    subjects,
)
from .setting import Part, Setting
from .store import Store, digest
from .subjects import Subjects

BUDGET_S = 500.0  # of all parts: with what imports, inputs and drawing take, a run stays under ten minutes
DIRECTORY = Path("reports") / "study"
# The largest parts last.
TABLES: tuple[ModuleType, ...] = (faults, every_kernel, long_context, single_head, multi_head)
PATIENCE = 1.5  # of its fair share a part may take what earlier parts left over
MEASURING: tuple[ModuleType, ...] = (
    *(
        clock,
        measure,
        workload,
        every_kernel,
        faults,
        fresh,
        long_context,
        multi_head,
        published,
        sampling,
        setting,
        single_head,
        subjects,
    ),
)


def add_command(commands: Any) -> None:
    """Declare ``study`` among the commands of the command line."""
    parser = commands.add_parser("study", help="measure the tables of the study that the project grew out of")
    parser.add_argument("--output", type=Path, default=DIRECTORY, metavar="DIR", help="default %(default)s")
    SECONDS.declare(parser, "--time-limit", f"{BUDGET_S:g}", "of measuring")
    parser.add_argument("--device", choices=("cpu", "cuda", "all"), default="all", help="default %(default)s")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    parser.add_argument("--kernel", action="append", metavar="NAME", help="only this kernel; repeatable (default all)")
    parser.add_argument("--fresh", action="store_true", help="measure finished parts again")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure the parts that are not finished, and write the report of all.

    Raises:
        CannotDo: no such kernel, or no such device here.

    """
    devices = _check(options)
    torch.set_num_threads(options.threads)
    record = environment.describe(environment.steady_allocator())
    chosen = Subjects(options.kernel)
    parts = [part for device in devices for table in TABLES for part in table.parts(device, chosen)]
    package = source.from_directory(Path(attention.__file__ or "").parent).sha256[:16]
    code = digest(Path(inspect.getfile(module)) for module in MEASURING)
    identity = {**record, "attention": package, "measuring code": code, "time limit": options.time_limit}
    store = Store(options.output / "parts.json", {**identity, "kernels": options.kernel}, fresh=options.fresh)
    if store.discarded is not None:
        print(f"note: {store.discarded}; all parts are measured anew")
    meter = LoadMeter()
    measure_parts(parts, store, chosen, options.time_limit)
    load = meter.read()
    record |= {
        "attention": f"source {package}",
        "measuring": f"{store.seconds:.0f} s of parts, time limit {options.time_limit:g} s",
        "other load": f"{load.other_cores:.2f} of {load.cores} cores, and {load.stolen_cores:.2f} stolen",
    }
    made = report.make(store.results, devices, record, left_out.rows(left_out.names(), left_out.with_backward()))
    page, text = report.write(made, options.output)
    print(f"{made.summary}\n{page}\n{text}")


def _check(options: argparse.Namespace) -> tuple[str, ...]:
    unknown = [name for name in options.kernel or [] if name not in attention.KERNELS]
    if unknown:
        raise CannotDo(f"no kernel is named {', '.join(unknown)}: choose among {', '.join(attention.KERNELS)}")
    present = environment.present_devices()
    if options.device == "all":
        return present
    if options.device not in present:
        raise CannotDo(f"--device={options.device}: torch sees only {', '.join(present)} here")
    return (options.device,)


def measure_parts(parts: list[Part], store: Store, chosen: Subjects, budget_s: float) -> None:
    """Measure each part that the store lacks, in its share of the time, and keep it at once."""
    total = sum(part.weight for part in parts)
    left = [part for part in parts if part.key not in store]
    end = time.monotonic() + budget_s * sum(part.weight for part in left) / total
    finished = total - sum(part.weight for part in left)
    with tqdm(total=total, initial=finished, bar_format="{l_bar}{bar}| {elapsed}{postfix}") as bar:
        for i, part in enumerate(left):
            bar.set_postfix_str(part.key)
            start = time.monotonic()
            fair_s = budget_s * part.weight / total
            share_s = (end - start) * part.weight / sum(p.weight for p in left[i:])
            place = Setting(part.device, clock.Clock.of(part.device), chosen, _bounded(share_s, fair_s), store.results)
            series = list(part.measure(place))
            store.add(part.key, series, time.monotonic() - start)
            bar.update(part.weight)


def _bounded(share_s: float, fair_s: float) -> float:
    """What a part may take: its share of what is left, not much more than fair, and something where all is spent."""
    return max(0.1 * fair_s, min(share_s, PATIENCE * fair_s))
