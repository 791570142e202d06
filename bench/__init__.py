"""The instrument: measures the attention package, compares two versions of it, and judges the difference.

Data flows one way: cases -> measure, drift, fingerprint -> statistics -> verdict -> report -> plugin.
"""
