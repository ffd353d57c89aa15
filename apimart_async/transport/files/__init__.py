"""Results on disk: names, atomic files, download checks, and the threads for file work."""
