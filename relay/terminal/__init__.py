"""A relay's topics in a terminal: followed, drawn on a screen, or written as plain lines."""
