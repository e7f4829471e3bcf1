"""Asks an endpoint: clients, load, and comparisons of answers."""
