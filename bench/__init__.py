"""The gate: compares two versions of code by its benchmarks, and judges the difference; see CONTRIBUTING.md."""
