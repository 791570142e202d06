"""The command line: options in, one frozen ``Settings`` out. Every default is here or in ``Policy``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from . import policy_options
from .judging.policy import Policy
from .plain.arguments import DEFAULT_SHARD, DEFAULT_THREADS, PERCENT, THREADS, read_shard
from .plain.errors import CannotDo
from .sources.target import Target
from .suite import config as gate_config
from .suite.cases import DEVICES
from .suite.config import GateConfig
from .suite.matrix import ROWS, TIERS, Rows
from .timing.environment import present_devices

_DEVICES = (*DEVICES, "all")
DEFAULT_TIER = "pr"
DEFAULT_DEVICE = "all"

# Options that say how to compare. Without a comparison they would do nothing, so they are refused.
_COMPARING = (*policy_options.COMPARING, "gate_graphs", "gate_host_threshold")

# Options that name something. An unset variable in a workflow leaves the name empty, which is refused.
_NAMED = {
    "benchmark_compare": "a baseline, or leave out the = for the latest",
    "benchmark_storage": "a directory",
    "kernel": "a kernel as package.module:function",
    "source": "a package or module",
    **policy_options.NAMED,
}


@dataclass(frozen=True)
class Settings:
    """What the command line asked for; ``compare`` (a baseline; True: the latest) and ``base`` are not both set."""

    tier: str
    devices: tuple[str, ...]
    threads: int
    shard: tuple[int, int]
    target: Target
    policy: Policy
    compare: str | bool
    base: str | None
    base_python: str | None = None  # the base's interpreter, if it is not this one
    reports: Mapping[str, Path] = field(default_factory=dict)  # format -> file
    annotate: bool = False
    graphs: bool = False  # time calls as they are replayed from CUDA graphs
    config: GateConfig | None = None

    @property
    def rows(self) -> Rows:
        """The rows of the matrix: those of the repository's own file, if there is one."""
        return ROWS if self.config is None else self.config.rows

    @property
    def comparing(self) -> bool:
        return bool(self.compare) or self.base is not None or self.base_python is not None

    @property
    def repeatable(self) -> tuple[str, ...]:
        """The options under which one case is compared again as here; defaults are left out."""
        given = [f"--kernel={kernel}" for kernel in self.target.kernels]
        given += [f"--source={source}" for source in self.target.sources]
        single = {
            "--tier": (self.tier, DEFAULT_TIER),
            "--threads": (self.threads, DEFAULT_THREADS),
            "--gate-threshold": (f"{100 * self.policy.threshold:g}%", f"{100 * Policy.threshold:g}%"),
            "--gate-host-threshold": (f"{100 * self.policy.host_threshold:g}%", f"{100 * Policy.host_threshold:g}%"),
            "--gate-base-python": (self.base_python, None),
            "--gate-config": (None if self.config is None else str(self.config.file.path), None),
            "--gate-base": (self.base, None),
        }
        given += [f"{name}={value}" for name, (value, default) in single.items() if value != default]
        given += ["--gate-graphs"] if self.graphs else []
        if self.compare:  # last: without a value, it would take the next word as one
            given.append("--benchmark-compare" if self.compare is True else f"--benchmark-compare={self.compare}")
        return tuple(given)


def add(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("gate", "attention regression gate")
    option = partial(policy_options.declare, group)
    policy_options.add(group)
    option(
        "--gate-host-threshold",
        metavar="PERCENT",
        help=f"as --gate-threshold, for the host's time per call on a GPU (default {Policy.host_threshold:.0%})",
    )
    option("--gate-graphs", action="store_true", help="time calls as CUDA graphs replay them (needs --device=cuda)")
    option("--tier", default=DEFAULT_TIER, metavar="|".join(TIERS), help=f"case matrix (default {DEFAULT_TIER})")
    option(
        "--device",
        default=DEFAULT_DEVICE,
        metavar="|".join(_DEVICES),
        help="where to run (default all that are present)",
    )
    option("--threads", default=str(DEFAULT_THREADS), metavar="N", help=f"CPU threads (default {DEFAULT_THREADS})")
    option("--shard", default=DEFAULT_SHARD, metavar="I/N", help=f"part of the matrix (default {DEFAULT_SHARD})")
    option(
        "--kernel", action="append", default=[], metavar="PKG.MOD:FN", help="a kernel of another repository; repeatable"
    )
    option(
        "--source", action="append", default=[], metavar="NAME", help="a package or module of its source; repeatable"
    )


def settings(config: pytest.Config) -> Settings:
    """Read the options.

    Raises:
        CannotDo: a senseless value or combination; the message says what to do.

    """
    read = config.getoption
    policy_options.refuse_empty(config, _NAMED)
    compare, base, base_python = read("benchmark_compare"), read("gate_base"), read("gate_base_python")
    if compare and base:
        raise CannotDo("--benchmark-compare and --gate-base both name a base: give one of them")
    comparing = bool(compare) or base is not None or base_python is not None
    if read("benchmark_compare_fail"):
        raise CannotDo(
            "--benchmark-compare-fail judges stored times, which this machine cannot repeat: use --gate-threshold"
        )
    if not comparing:
        policy_options.refuse_alone(config, _COMPARING, instead="--benchmark-compare or --gate-base=REV-or-DIR")
    own = None if read("gate_config") is None else gate_config.read(Path(read("gate_config")))
    devices = _devices(_choice("--device", read("device"), _DEVICES))
    if read("gate_graphs") and devices != ("cuda",):
        raise CannotDo("--gate-graphs replays calls on a GPU: add --device=cuda")
    host_threshold = read("gate_host_threshold")
    if host_threshold is not None and "cuda" not in devices:
        raise CannotDo(f"--gate-host-threshold={host_threshold} is about calls on a GPU, and none is used: drop it")
    policy = policy_options.policy(config)
    if host_threshold is not None:
        policy = replace(policy, host_threshold=PERCENT.read("--gate-host-threshold", host_threshold))
    return Settings(
        tier=_choice("--tier", read("tier"), TIERS),
        devices=devices,
        threads=THREADS.read("--threads", read("threads")),
        shard=read_shard("--shard", read("shard")),
        target=_target(config, own),
        policy=policy,
        compare=compare or False,
        base=base,
        base_python=base_python,
        reports=policy_options.reports(config),
        annotate=read("gate_annotations"),
        graphs=bool(read("gate_graphs")),
        config=own,
    )


def _target(config: pytest.Config, own: GateConfig | None) -> Target:
    """Return what is compared: options override the file."""
    kernels, sources = (tuple(dict.fromkeys(config.getoption(name))) for name in ("kernel", "source"))
    return Target(kernels, sources) if own is None else own.chosen(kernels, sources)


def _choice(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise CannotDo(f"{option}={value}: choose one of {', '.join(choices)}")
    return value


def _devices(choice: str) -> tuple[str, ...]:
    present = present_devices()
    if choice == "all":
        return present
    if choice not in present:
        raise CannotDo(
            f"--device={choice}: torch sees only {', '.join(present)} here: run on a machine with such a device"
        )
    return (choice,)
