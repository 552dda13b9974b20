"""Chaos from a seed: everything fails at random, and nothing may be missing after.

`python -m local.chaos --seed 1`.
"""
