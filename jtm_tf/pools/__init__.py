"""One function over many pieces of work, here or on other machines.

A pool has `workers(make)`: a block in which a function that `make` returns is
given pieces of work. Whoever has work knows no more of where it is done.
"""
