"""``torchrun -m bench.study.tensor_parallel``: sharded attention against unsharded, checked and timed."""

import os
import random
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from time import perf_counter_ns

import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

import attention
from attention import MultiHeadAttention, TensorParallelAttention, tensor_parallel

from ..judging.statistics import median
from ..observing import drift
from ..plain.arguments import COUNT, Parser
from ..plain.errors import CannotDo
from ..plain.evidence import Pair, TensorError
from ..report.text import ratio_of
from ..suite.cases import DEVICES, DTYPES, Case, Shape
from ..suite.oracle import oracle, yardstick
from ..suite.side import Side
from ..suite.workload import Workload, bind, build, parameter_sizes
from ..timing import environment
from ..timing.clock import Clock
from ..timing.measure import Burst, measure

MASKS = ("full", "causal", "boolmask", "floatmask")


def main(arguments: list[str] | None = None) -> int:
    """Check and time every shape with every mask; returns 0, 1 if a result is off, 4 if it cannot be done as asked."""
    try:
        return _run(parser().parse_args(arguments))
    except (CannotDo, ValueError) as error:
        if os.environ.get("RANK", "0") == "0":  # once, not from every process
            print(f"error: {error}", file=sys.stderr)
        return 4


def parser() -> Parser:
    """Make the parser of the options."""
    parser = Parser(prog="torchrun -m bench.study.tensor_parallel", description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["b1h8t512d64", "b1h8kv4t512d64"], help="default %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="default %(default)s")
    COUNT.declare(parser, "--pairs", "20", "timed pairs of a row")
    parser.add_argument("--device", choices=DEVICES, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--init", default="env://", help="where the processes meet, as a URL (default: torchrun knows)")
    return parser


def _run(options: Namespace) -> int:
    shapes = [Shape.parse(shape) for shape in options.shapes]
    if not {"RANK", "WORLD_SIZE"} <= set(os.environ):
        raise CannotDo("start one process a device: torchrun --nproc-per-node=2 -m bench.study.tensor_parallel")
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if options.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    environment.hold_still(threads=1)
    backend = "nccl" if options.device == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=options.init, rank=rank, world_size=ranks)
    try:
        return _compare(shapes, options.dtype, options.device, options.pairs)
    finally:
        distributed.destroy_process_group()


def _compare(shapes: list[Shape], dtype: str, device: str, pairs: int) -> int:
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    side, failed = Side.of("whole", attention), False
    _say(f"{mesh.size()} processes, {device}, {dtype}, forward and backward, {pairs} pairs; ratio = sharded/whole")
    _say(f"{'case':48}  ratio  99.8% interval     whole    sharded  error")
    for shape, mask in product(shapes, MASKS):
        case = Case("mha", module=True, shape=shape, mask=mask, dtype=dtype, device=device, direction="fwdbwd")
        workload = build(case, parameter_sizes(case, side))
        whole = bind(workload, side)
        share = _share(workload, mesh)
        exact, naive = oracle(workload), yardstick(workload)
        errors = drift.hold_to_budget(_results(share, workload), exact, naive, whole.results())
        _say(_row(case.id, errors, _time(whole, _call(share, workload), device, pairs)))
        for complaint in (c for e in errors for c in e.complaints):
            failed = True
            _say(f"  {complaint}")
    return 1 if failed else 0


def _say(line: str) -> None:
    if distributed.get_rank() == 0:
        print(line, flush=True)


def _share(workload: Workload, mesh: DeviceMesh) -> TensorParallelAttention:
    """Share out a module that has the workload's parameters."""
    shape, inputs = workload.case.shape, workload.inputs
    module = MultiHeadAttention(shape.heads * shape.head_size, shape.heads, n_kv_heads=shape.kv_heads)
    module.load_state_dict({name: t.detach().clone() for name, t in inputs.items() if name != "x"}, assign=True)
    return tensor_parallel(module, mesh)


def _call(share: TensorParallelAttention, workload: Workload) -> Callable[[], object]:
    x = workload.inputs["x"]
    leaves, causal = [x, *share.parameters()], workload.case.mask == "causal"

    def call() -> None:
        out = share(x, mask=workload.mask, causal=causal)
        dx, *_ = torch.autograd.grad(out, leaves, workload.upstream)
        for exchanged in (out, dx):  # an exchange may be under way: reading a part waits for the whole
            exchanged[..., :1].clone()

    return call


def _results(share: TensorParallelAttention, workload: Workload) -> dict[str, Tensor]:
    """The output and gradients as the unsharded module names and lays them out."""
    x = workload.inputs["x"].detach().requires_grad_()
    out = share(x, mask=workload.mask, causal=workload.case.mask == "causal")
    out.backward(workload.upstream)
    assert x.grad is not None  # it was just made
    gradients = {"x": x.grad, **share.gather(gradients=True)}
    return {"out": out.detach(), **{f"d{name}": gradients[name] for name in workload.inputs}}


def _time(whole: Callable[[], object], sharded: Callable[[], object], device: str, pairs: int) -> tuple[Pair, ...]:
    """Time both in turn. Every process must make the same calls in the same order, or their exchanges would not meet.

    So what is decided follows from the time of the slowest process alone, which all of them know, and from one seed;
    and the clock is the host's, since a GPU's takes a burst again if this one process was throttled.
    """
    clock = Clock(perf_counter_ns, Clock.of(device).synchronize)

    def burst_of(call: Callable[[], object]) -> Burst:
        def burst(calls: int) -> float:
            distributed.barrier()
            elapsed = torch.tensor(clock.burst(call, calls), dtype=torch.float64, device=device)
            distributed.all_reduce(elapsed, distributed.ReduceOp.MAX)
            return float(elapsed)

        return burst

    rule = Enough(pairs)
    return measure(burst_of(whole), burst_of(sharded), rule=rule, budget_s=inf, order=random.Random(0)).pairs


@dataclass(frozen=True)
class Enough:
    """A rule that is content with a number of pairs, whatever they show."""

    least_pairs: int

    def is_certain(self, ordered: Sequence[float]) -> bool:
        return len(ordered) >= self.least_pairs


def _row(case_id: str, errors: tuple[TensorError, ...], pairs: tuple[Pair, ...]) -> str:
    ratio, interval = ratio_of(pairs)
    times = (sorted(p.base_ns_per_call for p in pairs), sorted(p.head_ns_per_call for p in pairs))
    whole, sharded = (f"{median(t) / 1e6:.2f} ms" for t in times)
    share = max(error.share for error in errors)
    return f"{case_id:48}  {ratio:.3f}  {interval:14}  {whole:>9}  {sharded:>9}  {share:.0%}"


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    # Threads of gloo that outlive their group may abort the process when Python ends (pytorch/pytorch#179291).
    os._exit(exit_code)
