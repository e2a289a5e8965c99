"""The processes that do the work: the process pool, fair shares, and the workers of every tenant."""
