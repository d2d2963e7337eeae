"""The work: one folder per task, the same furniture in each. Seams, never a concrete engine."""
