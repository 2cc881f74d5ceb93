"""Numbers in English words: letters, spaces and hyphens only."""

from __future__ import annotations

from functools import lru_cache

from num2words import num2words

# The longest number read as one; longer ones are codes, read digit by digit.
_LONGEST = 15

_FRACTIONS = {2: "half", 3: "third", 4: "quarter"}
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}


@lru_cache(maxsize=4096)
def _words(number: int, form: str) -> str:
    return str(num2words(number, to=form)).replace(",", "")


def digits(text: str) -> str:
    """Read digits one by one; other characters are left out: "0-50" is "zero five zero"."""
    return " ".join(_words(int(digit), "cardinal") for digit in text if digit.isdigit())


def cardinal(text: str) -> str:
    """Read a number as written, with or without commas and decimals: "1,204.50" -> "one thousand two ..."."""
    whole, _, decimals = text.replace(",", "").partition(".")
    if len(whole) > _LONGEST or (len(whole) > 1 and whole.startswith("0")):
        words = digits(whole)
    else:
        words = _words(int(whole or "0"), "cardinal")
    return f"{words} point {digits(decimals)}" if decimals else words


def ordinal(text: str) -> str:
    """Read "3" as "third"."""
    return _words(int(text), "ordinal") if len(text) <= _LONGEST else digits(text)


def year(text: str) -> str:
    """Read "1999" as "nineteen ninety-nine"."""
    return _words(int(text), "year")


def plural(words: str) -> str:
    """Make a number plural: "nineteen ninety" -> "nineteen nineties"."""
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}es" if words.endswith("x") else f"{words}s"


def out_of(count: str, total: str) -> str:
    """Read "8.5", "10" as "eight point five out of ten"."""
    return f"{cardinal(count)} out of {cardinal(total)}"


def fraction(numerator: str, denominator: str) -> str:
    """Read "3", "4" as "three quarters"; what nobody takes for a fraction as "nine out of ten"."""
    above, below = int(numerator), int(denominator)
    if not (0 < above < below and below in (2, 3, 4, 5, 6, 8, 16)):
        return out_of(numerator, denominator)
    if above == 1:
        return f"{'a' if below == 2 else 'one'} {_FRACTIONS.get(below) or ordinal(denominator)}"
    name = _FRACTIONS.get(below) or ordinal(denominator)
    return f"{cardinal(numerator)} {'halves' if below == 2 else name + 's'}"


def money(symbol: str, amount: str, scale: str, named: str, *, singular: bool) -> str:
    """Read a sum of money.

    Args:
        symbol: of the currency.
        amount: as written.
        scale: such as "million", or none.
        named: the currency as it is written behind the sum once more, "bucks", or none.
        singular: the sum describes what comes: "a five dollar bill".
    """
    one, many, small_one, small_many = _CURRENCIES[symbol]
    if singular:
        many, small_many = one, small_one
    whole, _, decimals = amount.replace(",", "").partition(".")
    if scale:
        return f"{cardinal(amount)} {scale} {named or many}"
    if len(decimals) != 2 or not small_one:
        return f"{cardinal(amount)} {named or (one if amount == '1' else many)}"
    large = f"{cardinal(whole)} {one if whole == '1' else many}" if whole.strip("0") else ""
    small = f"{cardinal(str(int(decimals)))} {small_one if decimals == '01' else small_many}"
    if decimals == "00":
        return large or f"zero {many}"
    return f"{large} and {small}" if large else small


def clock(hours: str, minutes: str, half: str) -> str:
    """Read a time of day: "10", "05" is "ten oh five". `half` is "a" or "p", or "" where the time has none."""
    words = cardinal(str(int(hours)))
    if int(minutes):
        words += f" {'oh ' if minutes.startswith('0') else ''}{cardinal(str(int(minutes)))}"
    elif not half:
        words += " o'clock" if 1 <= int(hours) <= 12 else " hundred"
    return words
