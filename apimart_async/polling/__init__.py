"""Waiting for tasks: when to look next, and how many waits share few requests."""
