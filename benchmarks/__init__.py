"""What the relay costs, beside a floor and its peers: `make bench`."""
