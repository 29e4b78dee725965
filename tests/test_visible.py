import sys
import unicodedata

import pytest

from paretrim.errors import CorruptFile, located, reason_of
from paretrim.visible import escape, visible, visible_lines


def test_no_character_that_steers_a_terminal_or_turns_a_line_round_is_left():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = visible(everything)
    assert len(shown) == len(everything)
    assert {unicodedata.category(one) for one in set(shown)}.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
    shown.encode()  # lone surrogates are gone too


@pytest.mark.parametrize("name", ["conv1", "prune → quantize", "Größe", "猫", "😀", "a b"])
def test_names_that_print_stay_as_they_are(name):
    assert visible(name) == name


def test_lines_stay_only_where_they_are_meant():
    assert visible_lines("a\x1b[2J\nb\r\u202e") == "a\ufffd[2J\nb\ufffd\ufffd"
    assert visible("a\nb") == "a\ufffdb"
    assert escape('<b>\x07"&') == "&lt;b&gt;\ufffd&quot;&amp;"


def test_no_message_of_ours_carries_escapes():
    with pytest.raises(CorruptFile) as failed, located("file '\x1b]0;x\x07'"):
        raise CorruptFile("node '\x1b[31m'\nis \udcff")
    assert str(failed.value) == "file '\ufffd]0;x\ufffd': node '\ufffd[31m'\nis \ufffd"


def test_reasons_of_foreign_exceptions_are_one_line():
    class Unspeakable(Exception):
        def __str__(self):
            raise ValueError

    assert reason_of(ValueError("first\x1b\nsecond")) == "ValueError: first\ufffd"
    assert reason_of(KeyError()) == "KeyError"
    assert reason_of(Unspeakable()) == "Unspeakable"


def test_no_message_floods_a_terminal():
    """Libraries quote what they cannot read, which may be a whole forged file."""
    message = str(CorruptFile(f"'a' cannot be read ({'x' * 10**6}); restore it from a copy"))
    assert len(message) < 4100
    assert message.startswith("'a' cannot be read (xxx")
    assert message.endswith("xxx); restore it from a copy")
    with pytest.raises(CorruptFile) as caught, located("file 'b'"):
        raise CorruptFile("y" * 10**6)
    assert len(str(caught.value)) < 4100
    assert str(CorruptFile("z" * 4000)) == "z" * 4000
