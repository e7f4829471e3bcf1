"""The proof outside Python: a C++ program that serves an exported version."""
