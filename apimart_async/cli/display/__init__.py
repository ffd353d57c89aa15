"""Everything that the command draws or prints: progress, results, summaries, errors as sentences."""
