"""The cost of the package beside that of other clients with the same workloads: `nox -s bench`."""
