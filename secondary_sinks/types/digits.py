"""Numbers as people write them, in the words of an edit or an option."""


def plain_digits(word: str) -> str:
    """The word, unchanged. Raises `ValueError` where Python reads a number that others do not.

    `int` and `float` take 1_0 for 10, and digits of all scripts.

    >>> float(plain_digits("0.5"))
    0.5
    """
    if "_" in word or not word.isascii():
        raise ValueError(f"{word!r:.60} is not a number in plain digits, such as 10 or 0.5")
    return word
