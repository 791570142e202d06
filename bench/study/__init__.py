"""The study that the project grew out of, measured anew: what it claims, and what shows here."""
