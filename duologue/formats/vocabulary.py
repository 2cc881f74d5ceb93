"""Text, tags and units in one numbering: any Hugging Face tokenizer widened by `2 + units` tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from duologue.errors import UserError
from duologue.formats.fingerprint import canonical_json
from duologue.formats.publish import make_directory, write_bytes

TAGS = 2
_ABOUT = "vocabulary.json"
_ROWS = 128


def padded(size: int) -> int:
    """Return the number of rows of an embedding for `size` tokens."""
    return -(-size // _ROWS) * _ROWS


def _added_tokens(units: int) -> list[AddedToken]:
    names = ["<|S0|>", "<|S1|>", *(f"<|unit_{unit}|>" for unit in range(units))]
    return [AddedToken(name, special=True, normalized=False) for name in names]


def _byte_level() -> Tokenizer:
    # The byte alphabet of ByteLevel, in byte order, so that a token's id is its byte.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(shifted)}
    tokenizer = Tokenizer(BPE(vocab={letters[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|pad|>", special=True, normalized=False)])
    return tokenizer


class Vocabulary:
    """A text tokenizer widened by the two tags and the units.

    Token id = base vocabulary size + stream id, with stream ids S0 = 0, S1 = 1, unit u = u + 2. Text is always
    encoded as text: nothing that stands in it becomes a tag, a unit or a control token.

    Attributes:
        base_size: number of ids of the text tokenizer, its own added tokens included.
        units: number of units.
        pad_id: what fills a sequence behind its last document.
    """

    def __init__(self, tokenizer: Tokenizer, about: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        # Tags and control tokens written out in a text stay text.
        self._tokenizer.encode_special_tokens = True
        self._about = dict(about)
        self._config = dict(config)
        self.base_size = int(about["base_size"])
        self.units = int(about["units"])
        self.pad_id = int(about["pad_id"])

    @classmethod
    def from_tokenizer(
        cls, tokenizer: Tokenizer, units: int, *, name: str, pad_id: int, config: Mapping[str, Any]
    ) -> Vocabulary:
        """Widen a text tokenizer.

        Args:
            tokenizer: the text tokenizer.
            units: number of units of the speech tokenizer.
            name: how the text tokenizer is called, for messages.
            pad_id: an id of the text tokenizer for padding.
            config: the `tokenizer_config.json` it is exported with.

        Raises:
            UserError: its ids have gaps, so the new ones would collide, or it has our tokens already.
        """
        # Some come with both set, for models that read one text at a time: sentences would be cut and filled up.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        base_size = tokenizer.get_vocab_size(with_added_tokens=True)
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
        digest = hashlib.sha256(canonical_json(json.loads(tokenizer.to_str()))).hexdigest()
        tokenizer.add_special_tokens(_added_tokens(units))
        first, last = tokenizer.token_to_id("<|S0|>"), tokenizer.token_to_id(f"<|unit_{units - 1}|>")
        if largest != base_size - 1 or first != base_size or last != base_size + TAGS + units - 1:
            raise UserError(
                f"the text tokenizer {name} cannot be widened: it has {base_size} tokens with ids up to {largest}, "
                f"and the new ones got {first} to {last} instead of {base_size} to {base_size + TAGS + units - 1}",
                where=name,
                hint="Name the base model's own tokenizer, one whose ids have no gaps and that has no units yet",
            )
        about = {"name": name, "base_size": base_size, "units": units, "pad_id": pad_id, "sha256": digest}
        return cls(tokenizer, about, config)

    @classmethod
    def byte_level(cls, units: int) -> Vocabulary:
        """Return the vocabulary that needs no files: 256 bytes, a padding token, the tags and the units."""
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|pad|>"}
        return cls.from_tokenizer(_byte_level(), units, name="bytes", pad_id=256, config=config)

    @classmethod
    def from_hugging_face(cls, name: str, units: int) -> Vocabulary:
        """Widen a Hugging Face tokenizer.

        Args:
            name: a directory, or the name of a model on the hub (which is then asked for it).
            units: number of units of the speech tokenizer.

        Raises:
            UserError: there is no such tokenizer, or it cannot be widened.
        """
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        local = Path(name).is_dir()
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"no tokenizer could be loaded ({str(error).splitlines()[0]})",
                where=name,
                hint="Give a directory with a tokenizer.json, or the name of a model on the hub you can reach",
            ) from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UserError("the tokenizer has no fast form", where=name, hint="Give one that has a tokenizer.json")
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **tokenizer.special_tokens_map}
        label = Path(name).name if local else name
        return cls.from_tokenizer(
            Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
            units,
            name=label,
            pad_id=pad_id or 0,
            config=config,
        )

    @classmethod
    def load(cls, directory: Path) -> Vocabulary:
        """Read a vocabulary that `save` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        try:
            about = json.loads((directory / _ABOUT).read_bytes())
            config = json.loads((directory / "tokenizer_config.json").read_bytes())
            tokenizer = Tokenizer.from_str((directory / "tokenizer.json").read_text("utf-8"))
            return cls(tokenizer, about, config)
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(
                f"the vocabulary is missing or damaged ({error})",
                where=directory,
                hint="Make the directory it belongs to again",
            ) from error

    def save(self, directory: Path) -> None:
        """Write the vocabulary as a Hugging Face tokenizer, which `AutoTokenizer` loads, and its identity.

        Raises:
            UserError: the directory cannot be written.
        """
        make_directory(directory)
        write_bytes(directory / "tokenizer.json", self._tokenizer.to_str(pretty=True).encode())
        write_bytes(directory / "tokenizer_config.json", json.dumps(self._config, indent=2).encode())
        write_bytes(directory / _ABOUT, json.dumps(self._about, indent=2).encode())

    @property
    def identity(self) -> dict[str, Any]:
        """What data and models must agree on: base size, units, and the sha256 of the text tokenizer."""
        return dict(self._about)

    @property
    def size(self) -> int:
        """Number of ids in use: base, tags and units."""
        return self.base_size + TAGS + self.units

    def padded_size(self) -> int:
        """Return the number of rows a model's embedding has: the size, rounded up."""
        return padded(self.size)

    def encode_text(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token ids of each text, uint32 `[tokens]`, without begin or end tokens."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def from_stream(self, stream: np.ndarray) -> np.ndarray:
        """Return stream ids (int `[n]`) as token ids, uint32 `[n]`."""
        return (np.asarray(stream, np.int64) + self.base_size).astype(np.uint32)

    def to_stream(self, tokens: np.ndarray) -> np.ndarray:
        """Return token ids as stream ids, int32 `[n]`; text tokens come out negative."""
        return (np.asarray(tokens).astype(np.int64) - self.base_size).astype(np.int32)

    def show(self, tokens: np.ndarray) -> str:
        """Write tokens as people do: `[S0][75][S1][89]`, text in between as text."""
        parts: list[str] = []
        text: list[int] = []

        def flush() -> None:
            if text:
                parts.append(self._tokenizer.decode(text, skip_special_tokens=False))
                text.clear()

        for token, stream in zip(np.asarray(tokens).tolist(), self.to_stream(tokens).tolist(), strict=True):
            if stream < 0:
                text.append(token)
                continue
            flush()
            parts.append(f"[S{stream}]" if stream < TAGS else f"[{stream - TAGS}]")
        flush()
        return "".join(parts)
