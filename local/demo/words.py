"""Numbers with their nouns. Pure."""


def count(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: *1 object*, *2 objects*."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
