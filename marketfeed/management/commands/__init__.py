"""The commands `marketfeed demo` and `marketfeed run`."""
