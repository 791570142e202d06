"""The gate: measures the attention package, compares two versions of it, and judges the difference.

Its rooms, bottom up, each importing only those before it: plain, cases, judging, sides, checking, timing, report,
history and study, options, gate, proof, commands, comparison, session, plugin.
"""
