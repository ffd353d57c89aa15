"""Waiting for tasks: when to poll next, and one request for the polls of many waits."""
