"""The spoken form of a sentence: English words that any engine reads the same way."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from duologue.formats.rejects import Unusable
from duologue.synth.lexicon import (
    ABBREVIATIONS,
    DOMAIN,
    IT_TRADE,
    LETTERS,
    MONTHS,
    NUMBERED,
    PER,
    SCALES,
    SHORTHAND,
    SIGNS,
    SPELLED,
    UNITS,
    WORDS,
)
from duologue.synth.numbers import cardinal, clock, digits, fraction, money, ordinal, out_of, plural, year
from duologue.synth.roman import ROMAN, in_words

LONGEST_ADDRESS = 60

_MONTH = "|".join(
    f"{month}|{month[:3]}\\b\\.?" + ("|Sept\\b\\.?" if month == "September" else "") for month in MONTHS
)
# Stands for the full stop of initials until the sentence's own punctuation is in order.
_DOT = "\x01"
# Behind an ellipsis, or the end of a sentence without a space, a full stop is no decimal point.
_NUMBER = r"\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|(?<![\w.])\.\d+"
# Behind digits, or what is written together with them: "3pm-", "$1M-", "5th-", "1990s-".
_ENDS_OF_A_RANGE = (
    r"(?:(?<=[\d%°])|(?<=\d[kKmMbB])|(?<=\d(?:st|nd|rd|th))|(?<=\d0s)"
    r"|(?<=\d[AaPp][Mm])|(?<=\d [AaPp][Mm])|(?<=\d[ap]\.m\.)|(?<=\d [ap]\.m\.))"
)
# Before a measure, or before the lower end of its range.
_ARTICLE = re.compile(r"\b[Aa]n? (?:[\d.,]+[kKmMbB]? to )?$")
# That has begun: the mark behind a number is its end.
_QUOTATION = re.compile(r'(?:^|[\s(])"(?:\S[^"]*)?$')
# What stands between a sign and the end of its side of an equation.
_TO_EQUALS = r"[\d$£€.,+×÷()/ -]*="
_SUM = rf"\d{{1,3}}(?: \d{{3}})+\b|{_NUMBER}"


def spoken(sentence: str) -> str:
    """Return a sentence as it is said.

    Numbers, dates, times, sums of money, units, phone numbers, addresses of the web, abbreviations and initials
    become words. Ends with a full stop, a question mark or an exclamation mark, if there is a word at all.

    Args:
        sentence: as `markup.plain` leaves it.

    Returns:
        ASCII letters, spaces and `' , . ! ? ; : -`.

    Raises:
        Unusable: `address`: a web address too long or cryptic to be read out; `foreign_script`: a letter that no
            English letter stands for.
    """
    text = _ascii(sentence)
    if sum(map(str.isalpha, text)) > 6 and text.isupper():
        text = text.lower()
    for pattern, speak in _RULES:
        text = pattern.sub(speak, text)
    return _tidy(text)


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    letters = unicodedata.normalize("NFD", text.translate(LETTERS))
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    for letter in letters:
        if letter.isalpha() and not letter.isascii():
            raise Unusable("foreign_script", f"the turn holds the letter {letter!r}")
    return letters


def _address(match: re.Match[str]) -> str:
    address = re.sub(r"^https?://(?:www\.)?|^www\.", "", match[0], flags=re.IGNORECASE)
    address = address.rstrip(".,!?;:'\")/")
    if len(address) > LONGEST_ADDRESS or re.search(r"[?=&%#]|\d{5}", address):
        raise Unusable("address", f"the turn holds the address {match[0][:60]}")
    for sign, word in ((".", " dot "), ("/", " slash "), ("@", " at "), ("-", " dash "), ("_", " "), (":", " ")):
        address = address.replace(sign, word)
    ending = re.search(r"[.,!?;:]*$", match[0])
    return f" {address}{ending[0] if ending else ''} "


def _date(month: int, day: int, year_text: str) -> str:
    spoken_year = year(year_text) if len(year_text) == 4 else cardinal(year_text.lstrip("0") or "0")
    return f"{MONTHS[month - 1]} {ordinal(str(day))}, {spoken_year}"


def _numeric_date(match: re.Match[str]) -> str:
    first, second, last = int(match[1]), int(match[3]), match[4]
    if 1 <= first <= 12 and 1 <= second <= 31:
        return _date(first, second, last)
    if 1 <= second <= 12 and 1 <= first <= 31:
        return _date(second, first, last)
    return " ".join(cardinal(part) for part in match.group(1, 3, 4))


def _iso_date(match: re.Match[str]) -> str:
    month, day = int(match[2]), int(match[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return " ".join(cardinal(part) for part in match.groups())
    return _date(month, day, match[1])


def _month_day(match: re.Match[str]) -> str:
    return f"{_month(match[1])} {ordinal(match[2])}" + (f" to {ordinal(match[3])}" if match[3] else "")


def _day_month(match: re.Match[str]) -> str:
    return f"the {ordinal(match[1])} of {_month(match[2])}"


def _month(name: str) -> str:
    return next(month for month in MONTHS if month.startswith(name[:3]))


def _groups(match: re.Match[str]) -> str:
    """Read a telephone number or another code digit by digit; leave what may be a range, years or a score."""
    groups = re.split("- ?", match[0])
    lengths = [len(group) for group in groups]
    numbers = all(group.endswith("0") or 1000 <= int(group) < 2100 for group in groups)
    code = not numbers and (lengths == [4, 4] or (len(groups) > 2 and sum(lengths) >= 7))
    return digits(match[0]) if code else match[0]


def _time(match: re.Match[str]) -> str:
    hours, minutes, half = match[1], match[2] or "00", (match[3] or "")[:1]
    if int(hours) > 24 or int(minutes) > 59:
        return f"{cardinal(hours)} to {cardinal(minutes)}"
    return clock(hours, minutes, half) + (f" {_spelled(f'{half.upper()}M')} " if half else "")


def _money_range(match: re.Match[str]) -> str:
    # The currency is said once, at the end; what has cents has its own.
    own = match[1] if re.search(r"\.\d\d$", match[2]) else ""
    return f"{own}{match[2]} to {match[1]}"


def _money(match: re.Match[str]) -> str:
    sign, amount, scale = match[1], match[2].replace(" ", ""), (match[3] or "").lower()
    # Many write the currency twice: "$5 million dollars".
    return money(sign, amount, SCALES.get(scale, scale), match[4] or "", singular=_is_singular(match)) + " "


def _inches(match: re.Match[str]) -> str:
    quoted = _QUOTATION.search(match.string, 0, match.start())
    return match[0] if quoted else f"{cardinal(match[1])} inches"


def _measure(match: re.Match[str]) -> str:
    one, many = UNITS[match[2]]
    return f"{cardinal(match[1])} {one if match[1] == '1' or _is_singular(match) else many} "


def _is_singular(match: re.Match[str]) -> bool:
    """Say whether an article stands before a measure, which then describes what comes: "a 12 oz cup"."""
    return _ARTICLE.search(match.string, 0, match.start()) is not None


def _several(match: re.Match[str]) -> str:
    number = year(match[1]) if match[1].endswith("0") and len(match[1]) == 4 else cardinal(match[1])
    return f"{' ' if match.string[match.start() - 1 : match.start()].isalpha() else ''}{plural(number)}"


def _initials(match: re.Match[str]) -> str:
    letters = match[1]
    if letters in WORDS or (letters not in SPELLED and re.search("[AEIOU]", letters)):
        return match[0]
    return _spelled(letters) + ("'s" if match[2] else "")


def _spelled(letters: str) -> str:
    # Dotted is the one form in which "A.M." is not taken for an article and an M.
    return "".join(letter + _DOT for letter in letters)


def _alternatives(names: dict[str, object]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
# In this order: what is longest and most certain first.
_RULES: tuple[_Rule, ...] = tuple(
    (re.compile(pattern), speak)
    for pattern, speak in (
        (r"(?i:https?://\S+|www\.\S+)|[\w.+-]+@[\w-]+\.[\w.-]+", _address),
        (rf"\b{DOMAIN}(?:/\S*)?", _address),
        (rf"(?<=[\d)%])\s?([-/])\s?(?={_TO_EQUALS})", lambda m: " minus " if m[1] == "-" else " divided by "),
        (rf"(?<![\w./&])(?:{_alternatives(dict(ABBREVIATIONS))})(?=\W|$)", lambda m: ABBREVIATIONS[m[0]]),
        (r"\bPh\.?D\b\.?", lambda m: _spelled("PHD")),
        (r"\bDr\.(?=\s+[A-Z])", lambda m: "Doctor"),
        (r"\bDr\.", lambda m: "Drive"),
        (r"\bSt\.(?=\s+[A-Z])", lambda m: "Saint"),
        (r"\bSt\.", lambda m: "Street"),
        (rf"(?<![\w-])({_alternatives(dict(NUMBERED))})\.\s?(?=\d)", lambda m: f"{NUMBERED[m[1]]} "),
        (r"\b[Vv]ol\s?(?=\d)", lambda m: "volume "),
        (r"(?<!\d)(?<!\d )\b(?:feat|ft)\.(?=\s+[A-Z])", lambda m: "featuring"),
        # In an equation it is a fraction.
        (r"(?i:(?<![\w/=+-])(?<![=+-] )b/c(?![\w/'-]|\s?[=+]))", lambda m: "because"),
        (rf"(?i:(?<![\w/])(?:{_alternatives(dict(SHORTHAND))})(?![\w/'-]))", lambda m: SHORTHAND[m[0].lower()]),
        # Contractions as they are mistyped: 'I"m', "that;s".
        (r"(?<=[A-Za-z])[\";](?=(?:m|s|t|re|ve|ll|d)\b)|(?<=\d)[\";](?=s\b)|(?<=\d0),(?=s\b)", lambda m: "'"),
        # Without a vowel engines spell it: "em em aitch em".
        (r"(?i:\bm+[- ]?hm+\b)", lambda m: "um-hum"),
        # In capitals these are said aloud more often than spelled; spelled is the trade.
        (r"\bI AM\b", lambda m: "I am"),
        (rf"\bIT(?= (?:{'|'.join(sorted(IT_TRADE))})s?\b)", lambda m: _spelled("IT")),
        (r"\bIT\b", lambda m: "it"),
        (r"\bWW ?(II?|[12])\b", lambda m: f"World War {cardinal(str(len(m[1]) if m[1][0] == 'I' else m[1]))}"),
        (ROMAN, in_words),
        (r"\b(24/7|9/11|20/20|50/50)\b(?!/\d)", lambda m: " ".join(map(cardinal, m[1].split("/")))),
        (r"(?<![\d-])(?:\+?1[-. ]?)?\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}\b", lambda m: digits(m[0])),
        (r"\b1-800-(?=[A-Za-z])", lambda m: "one eight hundred "),
        (r"(?<![\d.-])\d{3}-\d{4}(?![\d-])", lambda m: digits(m[0])),
        (rf"([$£€¥₹])\s?((?:{_NUMBER})[kKmMbB]?)\s?-\s?(?=[\d.])(?![\d.,]+\s?(?:%|percent))", _money_range),
        (r"\b[1-9]\d{0,2}(?: \d{3})* 000\b(?! \d)", lambda m: m[0].replace(" ", "")),
        # Codes, and telephone numbers: what counts so much has commas, or ends with zeros.
        (r"(?<![\d.,$£€¥₹-])\d{7,}(?<!000)(?![\d.,]*\d)", lambda m: f" {digits(m[0])} "),
        (r"\b(\d{4})[/-](\d\d)[/-](\d\d)\b", _iso_date),
        (r"(?<!\d[.-])\b(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|(?<!\.)\d{2})\b(?![.-]?\d)", _numeric_date),
        (
            rf"\b({_MONTH})\s?(\d{{1,2}})(?:st|nd|rd|th)?(?:\s?-\s?(\d{{1,2}})(?:st|nd|rd|th)?)?\b(?![:.]\d|,\d{{3}}(?!\d)|/)",
            _month_day,
        ),
        (rf"(?<![\w.,/:-])(?:[Tt]he )?([1-9]|[12]\d|3[01]) ({_MONTH})(?!\w)", _day_month),
        (r"\+\d(?:[ ()-]{0,2}\d){7,}", lambda m: f"plus {digits(m[0])}"),
        (r"(?<![\w.,$£€¥₹/:-])\d+(?:- ?\d+)+(?![\w.,/:%-]?\d)(?!%)", _groups),
        # Before times, so that "7:30-9:00" and "4-6 pm" have their word between.
        (rf"{_ENDS_OF_A_RANGE}\s?-\s?(?=[\d$£€])", lambda m: " to "),
        (r"\b(\d{1,2}):(\d\d)(?::\d\d)?(?!\d)(?:\s?([AaPp])\.?\s?[Mm]\b\.?)?", _time),
        (r"\b(1[0-2]|0?[1-9])(?:\.([0-5]\d))?\s?([AaPp])\.?\s?[Mm]\b\.?", _time),
        (r"\b([ap])\.m\.", lambda m: _spelled(f"{m[1].upper()}M")),
        (
            r"(?:(?<=[\d%¢])\s?/\s?(?=day|night|mile|gallon)|(?<=[\w%¢])\s?/\s?(?!day|night|mile|gallon))"
            r"(day|night|mile|gallon|hour|hr|week|month|mo|year|yr|person)\b",
            lambda m: f" per {PER.get(m[1], m[1])}",
        ),
        (rf"([$£€]\s?(?:{_NUMBER})[kKmM]?)\s?/\s?(?=[a-z])", lambda m: f"{m[1]} per "),
        (r"\b401\s?\(?k\)?", lambda m: "four oh one k"),
        (r"\b((?:[Cc]all|[Dd]ial)[a-z]*) 911\b", lambda m: f"{m[1]} {digits('911')}"),
        (r"\b([A-G])#(?!\w)", lambda m: f"{m[1]} sharp"),
        (r"#(?=\d)", lambda m: "number "),
        (r"(?<=[A-Za-z])\$(?=([A-Za-z]))", lambda m: "s" if m[1].islower() else "S"),
        (rf"(?<![$£€\d.,])({_NUMBER})\s?([$£€])(?!\s?\d)", lambda m: f"{m[2]}{m[1]}"),
        (r"\b(?:US|AU|CA|NZ|HK|[ACS])(?=\$\s?\d)", lambda m: ""),
        (r"(?<=[A-Za-z])(?=[$£€]\d)", lambda m: " "),
        (
            rf"([$£€¥₹])\s?({_SUM})\s?((?i:k|mm|m|bn|b|thousand|hundred|million|billion|trillion)\b)?"
            r"(?:\s?((?i:dollars?|bucks?|euros?|pounds?|yen|rupees?))\b)?",
            _money,
        ),
        (r"\b(\d)'\s?(\d{1,2})(?:\"|\b)", lambda m: f"{cardinal(m[1])} foot {cardinal(m[2])}"),
        (r"(?<![\w])-(?=[\d.])", lambda m: " minus "),
        (r"\b(\d+) (\d{1,2})/(\d{1,2})\b", lambda m: f"{cardinal(m[1])} and {fraction(m[2], m[3])}"),
        (r"\b(\d{1,3}\.\d+)/(\d{1,3})\b", lambda m: out_of(m[1], m[2])),
        (r"\b(\d{1,3})/(\d{1,3})\b", lambda m: fraction(m[1], m[2])),
        (r"(?<=\d):(?=\d)", lambda m: " to "),
        (r"\b([2-6])[gG]\b", lambda m: f"{cardinal(m[1])} G"),
        (r"(\d+\.\d+)\"", _inches),
        (rf"(?<![\w.])({_NUMBER})\s?({_alternatives(dict(UNITS))})(?:\.(?=\s+[a-z])|(?![\w²]))", _measure),
        (r"(?i:\b(\d+)(?:st|nd|rd|th)\b)", lambda m: ordinal(m[1])),
        (r"(?:'|(?<=[A-Za-z])-?)?(?<!\d)(?<!\d\.)(\d{1,4})'?s\b", _several),
        (r"\b(\d{1,4})'?ers\b", lambda m: f"{cardinal(m[1])}ers"),
        (r"#(?=\w)", lambda m: "hashtag "),
        (r"(?<=\d)(?=[A-Za-z])|(?<=[A-Za-z])-?(?=\d)", lambda m: " "),
        (r"(?<=\d)\.(?=\d+\.\d)|(?<=\.\d)\.(?=\d)", lambda m: " point "),
        (r"(?<![\d.])(1[1-9]\d\d|20\d\d)(?![\d]|[.,]\d)", lambda m: year(m[1])),
        (_NUMBER, lambda m: f" {cardinal(m[0])} "),
        (r"\b((?:[A-Za-z]\.){2,})", lambda m: _spelled(m[1].replace(".", "").upper())),
        (r"\b([A-Z])\.(?=\s+[A-Z])", lambda m: _spelled(m[1])),
        (r"\b([A-Z]{2,5})('?s)?\b(?!')", _initials),
        (r"\band/or\b", lambda m: "and or"),
        (r"(?<=[A-Za-z])/(?=[A-Za-z])", lambda m: " or "),
        (rf"[{re.escape(''.join(SIGNS))}]", lambda m: f" {SIGNS[m[0]]} "),
    )
)


def _tidy(text: str) -> str:
    text = re.sub(r"[()]|\s-+\s", ", ", text)
    text = re.sub(rf"[^A-Za-z' ,.!?;:{_DOT}-]", " ", text)
    text = re.sub(rf"(?<![A-Za-z{_DOT}])['-]+|['-]+(?![A-Za-z])", " ", text)
    # Of a run of punctuation the strongest sign stays; what stood before the first word goes.
    text = re.sub(r"\s*[,.!?;:](?:\s*[,.!?;:])*", lambda run: _strongest(run[0]), text)
    text = " ".join(text.split()).lstrip(",.!?;: ").rstrip(",;:- ")
    text = re.sub(rf"{_DOT}(?=[.!?])", "", text).replace(_DOT, ".")
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _strongest(run: str) -> str:
    return next(sign for sign in "?!.:;," if sign in run) + " "
