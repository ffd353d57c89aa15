"""What the package costs, beside what others cost for the same work: `nox -s bench`."""
