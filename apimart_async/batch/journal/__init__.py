"""Where a batch writes each step of its jobs before it takes the next one."""
