"""A batch as a page to look at."""
