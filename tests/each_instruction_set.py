"""Run the kernels' tests and the gate under each instruction set that PyTorch has code for and this CPU has.

``make test-instruction-sets``. ``ATEN_CPU_CAPABILITY`` chooses for PyTorch's own kernels and for the code that it
generates. It does not choose the libraries' own: oneDNN and MKL take what the CPU has. Whether tiles of AMX are used,
which PyTorch counts to ``avx512``, cannot be chosen.
"""

import os
import subprocess
import sys
import tempfile

SETS = ("default", "avx2", "avx512")  # each CPU with one of them has those before it
NAMED = {"AVX2": "avx2", "AVX512": "avx512"}  # by PyTorch's name for it; any other CPU has the default alone
# The gate compares with HEAD and not with the shipped baseline, whose flex does not refuse by name under the default.
COMMANDS = (
    ("tests/attention",),
    ("bench/", "--tier=smoke", "--gate-base=HEAD"),
    ("bench/", "--tier=pr", "-k", "compiled or flex", "--gate-base=HEAD"),  # of these smoke has no case
)


def main(workers: str) -> int:
    """Run the commands under each set, in order, and return 1 if one of them failed."""
    widest = SETS.index(NAMED.get(_used_by_itself(), "default"))
    for absent in SETS[widest + 1 :]:
        print(f"{absent}: skipped, PyTorch finds no {absent} on this CPU", flush=True)
    failed = []
    for chosen in SETS[: widest + 1]:
        with tempfile.TemporaryDirectory() as cache:  # PyTorch's own takes code of one set for another
            variables = os.environ | {"ATEN_CPU_CAPABILITY": chosen, "TORCHINDUCTOR_CACHE_DIR": cache}
            for command in COMMANDS:
                parallel = ("-n", workers, "--dist=worksteal") if command[0] == "tests/attention" else ()
                print(f"{chosen}: pytest {' '.join(command)}", flush=True)
                pytest = [sys.executable, "-m", "pytest", "-q", *parallel, *command]
                if subprocess.run(pytest, env=variables, check=False).returncode:
                    failed.append(f"{chosen}: pytest {' '.join(command)}")
    print("\n".join(["failed:", *failed]) if failed else f"passed under {', '.join(SETS[: widest + 1])}")
    return bool(failed)


def _used_by_itself() -> str:
    """Ask another process what PyTorch uses where nothing chooses."""
    variables = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    asking = [sys.executable, "-c", "import torch; print(torch.backends.cpu.get_cpu_capability())"]
    return subprocess.run(asking, env=variables, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
