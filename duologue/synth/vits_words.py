"""Which words of a text begin where in what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher


def beginnings(words: Sequence[str], said: Sequence[str]) -> list[int]:
    """Find the word that each group of sounds or letters begins with.

    As many groups as words are taken for one another. Otherwise groups run words together ("ʌvðə" for "of the") or
    part them ("twenty", "four"), and the place is found by comparing letters.

    Args:
        words: each spelled as in `said`, were it alone: phonemes of the word, or its letters.
        said: the groups, in order.

    Returns:
        For each group the index of a word, never falling. No group begins without a word: `words` is not empty.
    """
    if len(words) == len(said):
        return list(range(len(words)))
    owners = [index for index, word in enumerate(words) for _ in word]
    matched: dict[int, int] = {}
    for block in SequenceMatcher(None, "".join(words), "".join(said), autojunk=False).get_matching_blocks():
        for step in range(block.size):
            matched[block.b + step] = owners[block.a + step]
    found, place, last = [], 0, 0
    for group in said:
        # The first letter that has a counterpart decides; a group without any goes with what was before.
        last = next((matched[at] for at in range(place, place + len(group)) if at in matched), last)
        found.append(last)
        place += len(group)
    return found
