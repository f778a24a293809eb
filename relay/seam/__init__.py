"""What the upstream and the downstream half agree on: envelopes, streams, demand."""
