"""What the demo shows people: tables, households, an endpoint."""
