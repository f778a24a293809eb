"""What every process emits: counters, events and reports."""
