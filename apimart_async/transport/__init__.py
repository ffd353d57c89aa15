"""The wire: the only floor that speaks HTTP and JSON."""
