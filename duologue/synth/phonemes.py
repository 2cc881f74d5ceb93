"""Phonemes of text from the embedded espeak-ng: those that coqui's models were trained on, without a binary."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import espeakng_loader

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth.espeak import not_started

_CHILD = Path(__file__).with_name("phonemes_child.py")
_TIMEOUT_S = 60
# espeak-ng marks where it changes the language: "(en)fˈʊtbɔːl(fr)".
_LANGUAGE = re.compile(r"\(.+?\)")


class Phonemizer:
    """espeak-ng in a child process, one for each list of texts: what it crashes on costs that text alone.

    Args:
        language: a voice of espeak-ng, such as "en-us".
        timeout: seconds that a list of texts may take.

    Attributes:
        version: of espeak-ng.

    Raises:
        UserError: espeak-ng cannot be started here, or does not know the language.
    """

    def __init__(self, language: str, timeout: float = _TIMEOUT_S) -> None:
        self._timeout = timeout
        library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        # Isolated and without site-packages: the child needs neither, and starts in a fraction of the time.
        self._command = [sys.executable, "-I", "-S", str(_CHILD), library, data, language]
        answers = self._answers([])
        if not answers:
            raise not_started()
        if answers[0] is None:
            raise UserError(
                f"espeak-ng does not know the language {language!r}",
                where="phoneme_language",
                hint="Choose a model of a language that it knows",
            )
        self.version: str = answers[0]

    def phonemes(self, texts: Sequence[str]) -> list[str | Unusable]:
        """Return the phonemes of each text (IPA with stress, spaces between words), whatever stands beside it.

        They are what `espeak-ng --ipa` prints. Punctuation leaves no trace, except that it parts clauses. The reason
        of an `Unusable` is `phonemizer_crash`: espeak-ng crashed or hung on the text.
        """
        if not texts:
            return []
        answers = self._answers(texts)[1:]
        found: list[str | Unusable] = [_joined(clauses) for clauses in answers]
        if len(found) < len(texts):
            # The one after the last answer is to blame.
            found.append(Unusable("phonemizer_crash", f"espeak-ng crashed or hung on {texts[len(found)]!r}"))
            found += self.phonemes(texts[len(found) :])
        return found

    def _answers(self, texts: Sequence[str]) -> list:
        requests = "".join(f"{json.dumps(text)}\n" for text in texts).encode()
        try:
            output = subprocess.run(
                self._command,
                input=requests,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._timeout,
                check=False,
            ).stdout
        except subprocess.TimeoutExpired as expired:
            output = expired.stdout or b""
        # A crash may leave half a line.
        return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]


def _joined(clauses: Sequence[str]) -> str:
    spoken = [_LANGUAGE.sub("", clause).strip().replace("_", "") for clause in clauses]
    return " ".join(clause for clause in spoken if clause)
