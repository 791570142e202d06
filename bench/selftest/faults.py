"""Faults that a gate could miss: edits of a kernel of its own, ``probe``, one of each kind, and what must be said."""

from collections.abc import Mapping
from dataclasses import dataclass, field

KERNEL = """
import torch
from torch.nn import functional as F

from .registry import Capabilities, register

{before}

@register("probe", Capabilities(masks=frozenset(), causal=False, grouped=False, value_size=False))
def probe(q, k, v, *, mask, causal, scale):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
{call}
"""
WHOLE = """
import torch

from .masked import masked
from .registry import register

{before}

@register("probe", masked.capabilities)
def probe(q, k, v, **options):
{call}
"""
PLAIN = "return torch.softmax((q @ k.mT) * scale, -1) @ v"
OPERATOR = """
@torch.library.custom_op("probe_ops::attend", mutates_args=())
def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    {more}
    return torch.softmax((q @ k.mT) * scale, -1) @ v{times}

attend.register_fake(lambda q, k, v, scale: torch.empty_like(q))

def setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])
    ctx.scale = inputs[3]

def backward(ctx, gradient):
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        q, k, v = leaves
        out = torch.softmax((q @ k.mT) * ctx.scale, -1) @ v
        return (*torch.autograd.grad(out, leaves, gradient), None)

attend.register_autograd(backward, setup_context=setup_context)
"""
UNTIMED = "d8 or d20 or d80 or d128 or d256 or t3k2100"  # cases that are checked alone
ALL = "return masked.function(q, k, v, **options)"
SLOWER = "for _ in range(3): torch.softmax((q @ k.mT) * scale, -1)"
BY_NAME = "return torch.ops.probe_ops.attend(q, k, v, scale)"


@dataclass(frozen=True)
class Fault:
    """An edit: what the kernel's file and files beside it hold in base and in head, and what the gate must say.

    ``cases`` are those of the smallest tier that are compared, as ``-k`` has them.
    """

    kind: str
    said: str
    head_call: str = PLAIN
    base_call: str = PLAIN
    head_before: str = ""
    base_before: str = ""
    head_files: Mapping[str, str] = field(default_factory=dict)
    base_files: Mapping[str, str] = field(default_factory=dict)
    kernel: str = KERNEL
    cases: str = "probe and (b1h4t64d32-full-fp32 or large)"


def _operator(kind: str, said: str, more: str = "pass", times: str = "") -> Fault:
    before, after = (OPERATOR.format(more=m, times=t) for m, t in (("pass", ""), (more, times)))
    return Fault(kind, said, BY_NAME, BY_NAME, after, before)


def _file(kind: str, said: str, call: str, files: tuple[str, str, str], before: str = "") -> Fault:
    """A file by its name, with what it holds in base and in head; the kernel's file uses it."""
    name, base, head = files
    return Fault(kind, said, call, call, before, before, {name: head}, {name: base})


def _input(kind: str, call: str, said: str = "DRIFTED") -> Fault:
    """A kernel that serves every case, and is wrong for some."""
    return Fault(kind, said, call, ALL, kernel=WHOLE, cases=f"probe and ({UNTIMED})")


def _call(kind: str, said: str, call: str, before: str = "", cases: str = "b1h2t24d8scale0 or b1h4t2k9d64") -> Fault:
    """A kernel that serves every case, and does more than that."""
    return Fault(kind, said, call, ALL, before, kernel=WHOLE, cases=f"probe and ({cases})")


TWICE = """
class Mutating(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(factor)
        return x * factor

    @staticmethod
    def backward(ctx, gradient):
        factor, = ctx.saved_tensors
        return factor.data.mul_(gradient).clone(), None
"""
LAZY = """
class Lazy(torch.Tensor):
    @staticmethod
    def __new__(cls, work, like):
        made = torch.Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype)
        made.work = work
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args = [one.work() if isinstance(one, Lazy) else one for one in args]
        return func(*args, **(kwargs or {}))
"""

FAULTS = (
    _operator("a custom operator made slower", "REGRESSED", more=SLOWER),
    _operator("a custom operator off by 1%", "DRIFTED", times=" * 1.01"),
    Fault(
        "a function of torch replaced by a slower one",
        "REGRESSED",
        head_before="plain = torch.softmax\ntorch.softmax = lambda *a: [plain(*a) for _ in range(9)][0]\n",
    ),
    Fault(
        "a clock that hides half of the time",
        "REGRESSED",
        f"{SLOWER}\n{PLAIN}",
        head_before="import time\ntrue = time.perf_counter_ns\ntime.perf_counter_ns = lambda: true() // 9\n",
    ),
    Fault(
        "a switch of torch turned in the call", "DRIFTED", f"torch.set_autocast_enabled(q.device.type, True)\n{PLAIN}"
    ),
    Fault(
        "a crash in a later call",
        "by signal 6 (SIGABRT)",
        f"CALLS.append(None)\nif len(CALLS) > 60: os.abort()\n{PLAIN}",
        head_before="import os\nCALLS = []",
    ),
    _file(
        "a module found by its name at the call",
        "DRIFTED",
        f"import importlib\n{PLAIN} * importlib.import_module('attention.probe_factor').FACTOR",
        ("attention/probe_factor.py", "FACTOR = 1.0\n", "FACTOR = 1.01\n"),
    ),
    _file(
        "a resource of the package",
        "DRIFTED",
        f"from importlib.resources import files\n{PLAIN} * float(files('attention').joinpath('probe.txt').read_text())",
        ("attention/probe.txt", "1.0\n", "1.01\n"),
    ),
    _file(
        "a module beside the package",
        "REGRESSED",
        f"probe_beside.work(q)\n{PLAIN}",
        ("probe_beside.py", "def work(q): pass\n", "def work(q): [q @ q.mT for _ in range(9)]\n"),
        "import probe_beside",
    ),
    Fault(
        "a result kept by the address of its inputs",
        "earlier inputs",
        "key = q.data_ptr(), k.data_ptr(), v.data_ptr(), torch.is_grad_enabled()\n"
        "if key not in KEPT:\n    KEPT[key] = torch.softmax((q @ k.mT) * scale, -1) @ v\nreturn KEPT[key]",
        head_before="KEPT = {}",
    ),
    Fault(
        "a tensor kept at each call",
        "a call alive",
        "KEPT.append(q @ k.mT)\nreturn torch.softmax(KEPT[-1] * scale, -1) @ v",
        head_before="KEPT = []",
    ),
    Fault(
        "an output that the next call overwrites",
        "overwrites",
        "out = torch.softmax((q @ k.mT) * scale, -1) @ v\n"
        "if torch.is_grad_enabled():\n    return out\n"
        "BUFFER.setdefault(out.shape, torch.empty_like(out)).copy_(out)\nreturn BUFFER[out.shape]",
        head_before="BUFFER = {}",
    ),
    Fault(
        "uninitialised memory",
        "uninitialised memory",
        "scores = (q @ k.mT) * scale\nlow = scores.new_empty(1).clamp(-1e-38, 1e-38)\n"
        "return torch.softmax(scores + torch.nan_to_num(low, nan=1.0), -1) @ v + low",
    ),
    Fault(
        "softmax without its maximum",
        "DRIFTED",
        "weights = torch.exp((q @ k.mT) * scale)\nreturn (weights / weights.sum(-1, keepdim=True)) @ v",
    ),
    # Wrong for inputs of a kind.
    _input(
        "features beyond the 64th left out",
        "options['scale'] = options['scale'] or q.shape[-1] ** -0.5\n"
        "return masked.function(q[..., :64], k[..., :64], v, **options)",
    ),
    _input(
        "the scale of one head size",
        "options['scale'] = 0.125 if options['scale'] is None else options['scale']\n" + ALL,
    ),
    _input(
        "keys before the last 1,024 left out",
        "mask = options['mask']\n"
        "options['mask'] = mask if mask is None or mask.shape[-1] == 1 else mask[..., -1024:]\n"
        "return masked.function(q, k[:, :, -1024:], v[:, :, -1024:], **options)",
    ),
    _input(
        "positions in half precision",
        "if not options['causal'] or options['mask'] is not None or options.get('window'):\n"
        f"    {ALL}\n"
        "position = torch.arange(k.shape[2], device=q.device).bfloat16()\n"
        "mask = position <= position[-q.shape[2] :, None]\n"
        "return masked.function(q, k, v, **options | {'causal': False, 'mask': mask})",
    ),
    _input("values cut off at 100", "return masked.function(q, k, v.clamp(-100, 100), **options)"),
    _input(
        "key heads in turn, not in groups",
        "heads = torch.arange(q.shape[1], device=q.device) % k.shape[1]\n"
        "return masked.function(q, k[:, heads], v[:, heads], **options)",
    ),
    _input(
        "two items of a batch alone",
        "out = masked.function(q, k, v, **options)\nreturn torch.cat([out[:2], 0 * out[2:]])",
    ),
    _input(
        "head sizes of whole vectors alone",
        "out = masked.function(q, k, v, **options)\nwhole = v.shape[-1] // 8 * 8\n"
        "return torch.cat([out[..., :whole], 0 * out[..., whole:]], dim=-1)",
    ),
    # Calls that are not what they seem.
    _call(
        "a tensor that computes when it is read",
        "returns out as a Lazy",
        "return Lazy(lambda: masked.function(q, k, v, **options), q)",
        LAZY,
    ),
    _call(
        "a random generator seeded in the call",
        "leaves torch's random generator changed",
        f"torch.manual_seed(0)\n{ALL}",
    ),
    _call("threads left changed", "leaves the number of threads changed", f"torch.set_num_threads(3)\n{ALL}"),
    _call(
        "causal dropped in inference mode",
        "is another in inference mode",
        "options['causal'] = options['causal'] and not torch.is_inference_mode_enabled()\n" + ALL,
    ),
    _call(
        "a second backward pass that is wrong",
        "is wrong in a second backward pass",
        "out = masked.function(q, k, v, **options)\nreturn Mutating.apply(out, torch.ones_like(out))",
        TWICE,
    ),
    _call(
        "a reference cycle",
        "wait for garbage collection",
        f"ring = [q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT]\nring.append(ring)\n{ALL}",
    ),
    _call(
        "work at the first call of each length",
        "first call at a new length",
        f"if q.shape not in SEEN: time.sleep(0.2)\nSEEN.add(q.shape)\n{ALL}",
        "import time\nSEEN = set()",
    ),
    _call(
        "wrong at the first call of each length",
        "is wrong at the first call of a length",
        "new = q.shape not in SEEN\nSEEN.add(q.shape)\n"
        "return masked.function(q, k, v, **options) * (1.5 if new else 1)",
        "SEEN = set()",
    ),
    _call("other strides", "strides of the output", "return masked.function(q, k, v, **options).mT.contiguous().mT"),
    _call(
        "an output that keeps a larger buffer",
        "the output keeps",
        "return torch.stack([masked.function(q, k, v, **options)] * 9)[4]",
    ),
    _call(
        "a mask inverted and put back",
        "wrote to its inputs",
        "mask = options['mask'].logical_not_()\n"
        "out = masked.function(q, k, v, **options | {'mask': ~mask})\nmask.logical_not_()\nreturn out",
        cases="b2h2t20k28d64-boolmaskbhqk",
    ),
)
