"""What the command `marketfeed` does besides the relay's own commands (see `marketfeed.__main__`).

Django does not find these: `manage.py` is for a checkout, where make does the same.
"""
