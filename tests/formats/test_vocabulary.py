import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from duologue.errors import UserError
from duologue.formats.vocabulary import Vocabulary, padded

BYTES = Vocabulary.byte_level(500)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["how are you today", "how do you do", "you are here"], trainer)
    return tokenizer


def words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1, "you": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.fixture
def hugging_face(tmp_path):
    """Saves a tokenizer as transformers does, and returns its directory."""

    def save(tokenizer: Tokenizer, **specials: str) -> str:
        directory = tmp_path / "base"
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials).save_pretrained(directory)
        return str(directory)

    return save


def test_byte_level_ids_are_bytes():
    assert BYTES.base_size == 257
    assert BYTES.pad_id == 256
    assert BYTES.size == 257 + 2 + 500
    (ids,) = BYTES.encode_text(["Hi é🙂"])
    assert ids.dtype == np.uint32
    assert bytes(ids.tolist()) == "Hi é🙂".encode()


@given(st.lists(texts, max_size=4))
def test_byte_level_text_comes_back(many):
    encoded = BYTES.encode_text(many)
    assert [bytes(ids.tolist()).decode() for ids in encoded] == many


def test_no_text_becomes_a_control_token():
    for text in ("<|pad|>", "<|S0|>", "<|unit_5|>", "[S0]"):
        (ids,) = BYTES.encode_text([text])
        assert bytes(ids.tolist()).decode() == text


def test_a_tokenizer_that_cuts_and_fills_up_texts_does_neither_to_sentences(hugging_face):
    plain = Vocabulary.from_hugging_face(hugging_face(words(), unk_token="<unk>"), 3)
    cutting = words()
    cutting.enable_truncation(2)
    cutting.enable_padding(pad_id=0, pad_token="<unk>")
    vocabulary = Vocabulary.from_hugging_face(hugging_face(cutting, unk_token="<unk>"), 3)
    encoded = vocabulary.encode_text(["hello you hello you", "you"])
    assert [ids.tolist() for ids in encoded] == [[1, 2, 1, 2], [2]]
    assert vocabulary.identity == plain.identity


def test_a_tokenizer_that_begins_and_ends_every_text_does_neither_to_sentences(hugging_face, tmp_path):
    # As Llama's does: a begin token before every sentence of a document would be learnt as speech.
    begun = bpe()
    begun.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", 0), ("<|end|>", 1)]
    )
    vocabulary = Vocabulary.from_hugging_face(hugging_face(begun), 3)
    vocabulary.save(tmp_path / "widened")
    text = "how are you"
    expected = bpe().encode(text).ids
    for one in (vocabulary, Vocabulary.load(tmp_path / "widened")):
        assert [ids.tolist() for ids in one.encode_text([text, ""])] == [expected, []]


def test_token_id_is_base_size_and_stream_id():
    stream = np.array([0, 77, 1, 91])
    tokens = BYTES.from_stream(stream)
    assert tokens.dtype == np.uint32
    assert tokens.tolist() == [257, 334, 258, 348]
    assert BYTES.to_stream(tokens).tolist() == stream.tolist()
    assert BYTES.to_stream(np.array([72], np.uint32)).tolist() == [72 - 257]


def test_tokens_are_shown_as_people_write_them():
    tokens = [*BYTES.from_stream(np.array([0, 77, 1, 91])), *BYTES.encode_text(["Hi é!"])[0], *BYTES.from_stream([0])]
    assert BYTES.show(np.array(tokens)) == "[S0][75][S1][89]Hi é![S0]"
    assert BYTES.show(np.array([], np.uint32)) == ""


def test_embedding_rows_are_rounded_up():
    assert BYTES.padded_size() == 768
    assert [padded(size) for size in (1, 128, 129)] == [128, 128, 256]


def test_saved_vocabulary_is_the_same_and_the_same_bytes(tmp_path):
    BYTES.save(tmp_path / "a")
    loaded = Vocabulary.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert loaded.identity == BYTES.identity
    assert (loaded.base_size, loaded.units, loaded.pad_id) == (257, 500, 256)
    assert loaded.encode_text(["<|S0|> é"])[0].tolist() == list("<|S0|> é".encode())
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["tokenizer.json", "tokenizer_config.json", "vocabulary.json"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def exported(vocabulary: Vocabulary, directory) -> PreTrainedTokenizerFast:
    vocabulary.save(directory)
    return AutoTokenizer.from_pretrained(directory, local_files_only=True)


def test_exported_directory_loads_with_transformers(tmp_path):
    tokenizer = exported(BYTES, tmp_path / "vocabulary")
    assert len(tokenizer) == BYTES.size
    assert tokenizer.pad_token_id == 256
    names = ["<|S0|>", "<|S1|>", "<|unit_0|>", "<|unit_499|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [257, 258, 259, 758]
    text = "[é] <you> 🙂"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == list(text.encode())
    mixed = [257, *text.encode(), 258, 334]
    assert tokenizer.decode(mixed) == f"<|S0|>{text}<|S1|><|unit_75|>"
    assert tokenizer.decode(mixed, skip_special_tokens=True) == text


@pytest.mark.parametrize("make", [bpe, words])
def test_any_hugging_face_tokenizer_is_widened_behind_its_own_ids(hugging_face, tmp_path, make):
    base = make()
    size = base.get_vocab_size()
    vocabulary = Vocabulary.from_hugging_face(hugging_face(base), 501)
    assert (vocabulary.base_size, vocabulary.units, vocabulary.size) == (size, 501, size + 503)
    assert vocabulary.identity["name"] == "base"
    text = "how are you"
    assert vocabulary.encode_text([text])[0].tolist() == base.encode(text, add_special_tokens=False).ids
    tokenizer = exported(vocabulary, tmp_path / "widened")
    assert tokenizer.convert_tokens_to_ids(["<|S0|>", "<|S1|>", "<|unit_500|>"]) == [size, size + 1, size + 502]
    assert len(tokenizer) == vocabulary.size
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == base.encode(text, add_special_tokens=False).ids
    assert Vocabulary.load(tmp_path / "widened").identity == vocabulary.identity


def test_padding_is_the_tokenizers_own_or_its_end(hugging_face):
    named = hugging_face(bpe(), eos_token="<|end|>")
    assert Vocabulary.from_hugging_face(named, 10).pad_id == 1
    named = hugging_face(bpe(), eos_token="<|end|>", pad_token="<|begin|>")
    assert Vocabulary.from_hugging_face(named, 10).pad_id == 0
    named = hugging_face(words())
    assert Vocabulary.from_hugging_face(named, 10).pad_id == 0


def test_special_tokens_survive_the_export_and_are_text_where_text_has_them(hugging_face, tmp_path):
    named = hugging_face(bpe(), bos_token="<|begin|>", eos_token="<|end|>")
    vocabulary = Vocabulary.from_hugging_face(named, 10)
    tokenizer = exported(vocabulary, tmp_path / "widened")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1)
    text = "<|end|><|unit_3|>"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == [1, vocabulary.base_size + 5]
    (ids,) = vocabulary.encode_text([text])
    assert not {1, vocabulary.base_size + 5} & set(ids.tolist())
    assert tokenizer.decode(ids) == text


def test_identity_follows_the_text_tokenizer(hugging_face):
    first = Vocabulary.from_hugging_face(hugging_face(bpe()), 10).identity
    again = Vocabulary.from_hugging_face(hugging_face(bpe()), 10).identity
    other = Vocabulary.from_hugging_face(hugging_face(words()), 10).identity
    assert first == again
    assert first["sha256"] != other["sha256"]


def test_tokenizer_that_has_units_already_is_refused(hugging_face):
    tokenizer = words()
    tokenizer.add_special_tokens([AddedToken("<|unit_3|>", special=True, normalized=False)])
    with pytest.raises(UserError, match="cannot be widened"):
        Vocabulary.from_hugging_face(hugging_face(tokenizer), 10)


def test_tokenizer_whose_ids_have_gaps_is_refused(hugging_face):
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 7}, unk_token="<unk>"))
    with pytest.raises(UserError, match="cannot be widened"):
        Vocabulary.from_hugging_face(hugging_face(tokenizer), 10)


def test_tokenizer_without_a_fast_form_is_refused(tmp_path):
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no fast form"):
        Vocabulary.from_hugging_face(str(tmp_path), 10)


def test_directory_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="no tokenizer could be loaded") as caught:
        Vocabulary.from_hugging_face(str(tmp_path), 10)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["vocabulary.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe"])
def test_missing_or_damaged_file_is_named_and_refused(tmp_path, name, content):
    Vocabulary.byte_level(10).save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="missing or damaged") as caught:
        Vocabulary.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_vocabulary_without_its_sizes_is_refused(tmp_path):
    Vocabulary.byte_level(10).save(tmp_path)
    about = json.loads((tmp_path / "vocabulary.json").read_text())
    del about["base_size"]
    (tmp_path / "vocabulary.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="missing or damaged"):
        Vocabulary.load(tmp_path)
