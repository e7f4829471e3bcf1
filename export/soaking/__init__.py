"""A server held at work for long: who asks, what changes, what it holds."""
