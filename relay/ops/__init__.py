"""What operators see and do: the overview of all processes, pins, actions, metrics."""
