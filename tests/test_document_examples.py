"""The Python examples of the documents run as they stand."""

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[1] / "bench" / "docs" / "PACKAGE.md").read_text(encoding="utf-8")


def test_what_is_built_on_the_kernels_runs_and_has_the_shapes_it_says() -> None:
    (example,) = re.findall(r"```python\n(import torch\n.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "PACKAGE.md", "exec"), names)  # noqa: S102  # the project's own text
    assert names["cache"].length == 101
    assert names["scores"].shape == (4, 8, 40)
