"""A cluster on one machine: its processes, and accidents that befall them."""
