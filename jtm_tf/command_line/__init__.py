"""What all programs share: errors for people, flags, quiet libraries.

Needs nothing but absl, so that serving can do without the library.
"""
