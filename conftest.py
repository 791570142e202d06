"""Loads the plugin, so that its options are known to every pytest command, and nothing else."""

pytest_plugins = ["bench.plugin"]
