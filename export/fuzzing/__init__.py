"""Requests that a server must survive."""
