"""The live page of operators: what every process tells of itself, put together and shown."""
