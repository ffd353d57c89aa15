"""The journal of a batch: each step of a job is written before the next step begins."""
