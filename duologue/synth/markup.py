"""Chat text to plain prose: markdown, HTML, emoji and typography taken off, what is not prose refused."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator

import emoji
from markdown_it import MarkdownIt
from markdown_it.token import Token

from duologue.formats.rejects import Unusable
from duologue.synth.tokenized import untokenized

# Indented code, HTML blocks and link definitions are off: chat text is indented and bracketed for other reasons.
_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(["code", "html_block", "reference"])
_HARMLESS_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|center|cite|dd|del|div|dl|dt|em|font|h[1-6]|hr|i|ins|kbd|li|mark|ol|p|q|s|"
    r"small|span|strike|strong|tt|u|ul|wbr)\b[^>]*>|<!--.*?-->",
    re.IGNORECASE | re.DOTALL,
)
_NEW_BLOCK_TAG = re.compile(r"</?(?:blockquote|br|div|h[1-6]|hr|li|ol|p|ul|dd|dt)\b", re.IGNORECASE)

_FORMULA = re.compile(
    r"\\[(\[]|\\(?:frac|sqrt|begin|end|sum|int|cdot|times|text|left|right|alpha|beta|pi|theta|le|ge|neq)\b"
    r"|(?<!\$)\$\$(?!\$)[^$]+\$\$|(?<![\w$])\$[^\s$][^$\n]*[\\^_{}][^$\n]*\$|\w\^[\w({-]"
)
_CODE = re.compile(
    r"[{}]|=>|::|&&|\|\||[=!]==?(?!=)|\+=|\(\)|\);\s*$|</?[A-Za-z]\w*[^>]*$"
    r"|^\s*(?:#include|#!/|import \w+$|from \w+ import )"
    r"|^\s*(?:def|function) \w+\s*\(|^\s*(?:var|const|let) \w+\s*[=;]|^\s*class [A-Z]\w*\s*[:(]"
    r"|^\s*(?:public|private) \w+.*[;=(]\s*$"
    r"|^\s*(?:SELECT|INSERT INTO|DELETE FROM|UPDATE) .*(?:FROM|VALUES|WHERE|SET)\b",
    re.MULTILINE,
)
_WORDY_CODE = re.compile(r"[\w][\w .,'+#/-]*")
_TABLE_ROW = re.compile(r"\|[^|\n]*\|")
_EMOTICON = re.compile(r"(?<![\w'\"(])(?:[:;=][-'^o]?[()\[\]DPpO/\\|*3]+|<3+|\^[_.-]?\^|-_-|[xX]D+)(?!\w)")

# What transcripts have in brackets of what was heard besides words. In round ones, nouns may be prose.
_HEARD = (
    r"laugh(?:s|ing|ter)?|chuckl(?:e|es|ing)|giggl(?:e|es|ing)|sigh(?:s|ing)?|cough(?:s|ing)?|gasp(?:s|ing)?"
    r"|sniff(?:s|ing)?|inhales?|exhales?|clears (?:(?:his|her|my|their) )?throat|inaudible|unintelligible|crosstalk"
)
_NOUNS = r"(?:background )?(?:noise|music)|breath(?:ing)?|applause|silence|pauses?"
_EVENT = re.compile(
    rf"\(\(? ?(?:{_HEARD})(?: [a-z]+)? ?\)\)?|[\[<{{] ?(?:{_HEARD}|{_NOUNS})(?: [a-z]+)? ?[\]>}}]",
    re.IGNORECASE,
)

_QUOTES = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "`": "'", "´": "'", "ʼ": "'", "ʻ": "'"}
    | {"“": '"', "”": '"', "„": '"', "‟": '"', "″": '"', "«": '"', "»": '"'}
    | {"‐": "-", "‑": "-", "‒": "-", "–": "-", "—": " - ", "―": " - ", "−": "-"}
    | {"…": "...", "•": "\n- ", "·": " ", "✕": "×", "✖": "×", "№": "No. ", "\u2028": "\n", "\u2029": "\n\n"}
)
_KEPT = set(" .,!?;:'\"()-/%&@#$£€¥₹¢+=×÷°²³<>≤≥≈±")
_FRACTION_SLASH = "\u2044"


def plain(text: str) -> list[str]:
    """Return the prose of a turn, a string for each paragraph, heading or item of a list.

    The strings hold Latin letters, ASCII digits and common punctuation; numbers stay digits.

    Args:
        text: of a turn, as it came: any Unicode.

    Raises:
        Unusable: `code` (also JSON and templates), `table`, `markup` (tags of HTML or XML), `formula`,
            `foreign_script` (letters other than Latin).
    """
    text = _EVENT.sub(" ", _without_emoji(text)).replace("\r\n", "\n").replace("\r", "\n")
    # Two products in a paragraph are emphasis to markdown.
    text = re.sub(r"(?<=[\d)])[ \t]?\*[ \t]?(?=[\d($£€.])", " × ", text)
    if _FORMULA.search(text):
        raise Unusable("formula", "the turn holds a formula")
    if _is_json(text):
        raise Unusable("code", "the turn is JSON")
    paragraphs = (_characters(_bare(block)) for block in _blocks(_MARKDOWN.parse(untokenized(_typography(text)))))
    return [paragraph for paragraph in paragraphs if paragraph]


def _without_emoji(text: str) -> str:
    if ":" in text:
        text = emoji.emojize(text, language="alias")
    # Everything that `emoji` knows lies outside ASCII.
    return text if text.isascii() else emoji.replace_emoji(text, " ")


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _typography(text: str) -> str:
    if text.isascii():
        return text
    # Backquotes are markdown's until it has been parsed.
    return unicodedata.normalize("NFC", text).translate({**_QUOTES, ord("`"): "`"})


def _blocks(tokens: list[Token]) -> Iterator[str]:
    number = ""
    for token in tokens:
        if token.type == "fence":
            raise Unusable("code", "the turn holds a block of code")
        if token.type == "table_open":
            raise Unusable("table", "the turn holds a table")
        if token.type == "list_item_open" and token.info:
            number = f"{token.info}: "
        if token.type == "list_item_close" and number:
            # An answer such as "20." is an empty item to markdown.
            yield number.removesuffix(": ")
            number = ""
        if token.type == "inline":
            for line in _inline(token.children or []):
                if line.strip():
                    yield number + line
                    number = ""


def _inline(tokens: list[Token]) -> Iterator[str]:
    line = ""
    for token in tokens:
        if token.type == "hardbreak" or (token.type == "html_inline" and _NEW_BLOCK_TAG.match(token.content)):
            yield line
            line = ""
        elif token.type == "softbreak":
            line += "\n"
        elif token.type == "html_inline":
            if not _HARMLESS_TAG.fullmatch(token.content):
                raise Unusable("markup", f"the turn holds the tag {token.content[:40]}")
        elif token.type == "code_inline":
            if not _WORDY_CODE.fullmatch(token.content):
                raise Unusable("code", "the turn holds a piece of code")
            line += token.content
        else:
            line += token.content
    yield line


def _bare(text: str) -> str:
    """Take off the signs that markdown and chat leave behind; refuse what only code and tables have."""
    if _CODE.search(text):
        raise Unusable("code", "the turn reads like code")
    if _TABLE_ROW.search(text):
        raise Unusable("table", "the turn reads like a row of a table")
    text = _EMOTICON.sub(" ", text.translate(_QUOTES))
    text = re.sub(r"~\s?(?=[\d$£€])", "about ", text)
    text = re.sub(r"-+>|<-+", ", ", text)
    text = re.sub(r"\s-{2,}\s|(?<=\w)-{2,}(?=\w)", " - ", text)
    text = re.sub(r"([#@&/=,;:$-])\1+", lambda run: "//" if run[0] == "//" else f"{run[1]} ", text)
    text = re.sub(r"[<>](?!\s*[\d$£€])", " ", text)
    return text


def _characters(text: str) -> str:
    if not text.isascii():
        text = "".join(map(_character, text))
    text = "".join(
        character if character.isalnum() or character in _KEPT else " " for character in text.replace("\n", " ")
    )
    text = re.sub(r"\(\s*\)|(?<!\w)#(?!\w)", " ", text)
    text = re.sub(r"\s+(?=[.,!?;:](?:\s|$))", "", text)
    return " ".join(text.split())


def _character(character: str) -> str:
    if character.isascii() or character in _KEPT:
        return character
    decomposition = unicodedata.decomposition(character)
    if decomposition.startswith("<") and not decomposition.startswith(("<super>", "<circle>")):
        plain_form = unicodedata.normalize("NFKC", character)
        # A fraction stands apart from the number before it: 2½ is 2 1/2.
        plain_form = f" {plain_form.replace(_FRACTION_SLASH, '/')}" if _FRACTION_SLASH in plain_form else plain_form
    else:
        plain_form = character
    for letter in plain_form:
        category = unicodedata.category(letter)
        if not letter.isascii() and (category == "Nd" or category[0] == "L"):
            if not unicodedata.name(letter, "").startswith("LATIN ") or category == "Lm":
                raise Unusable("foreign_script", f"the turn holds the letter {letter!r}")
        elif not letter.isascii():
            # Invisible characters join, symbols part.
            plain_form = plain_form.replace(letter, "" if category in ("Cf", "Mn", "Me", "Cn") else " ")
    return plain_form
