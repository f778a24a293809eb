"""What every room may use: the table of times, pacing, tasks, settings, the clock."""
