"""What the gateway costs: benchmarks that start real servers, print a table and judge it."""
