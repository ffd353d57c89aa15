"""The report of a batch: an HTML page."""
