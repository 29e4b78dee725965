"""A cursor over bytes, and errors that name the record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def named(name: str) -> Iterator[None]:
    """Put the record's name in front of errors."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def require(condition: bool, message: str) -> None:
    """Refuse the file unless a condition holds."""
    if not condition:
        raise ValueError(message)


class Bytes:
    """Bytes that are read from the front."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        require(count <= len(self.content) - self.at, f"it is truncated at {self.at}: {count} bytes more were to come")
        self.at += count
        return self.content[self.at - count : self.at]

    def rest(self) -> bytes:
        """All remaining bytes."""
        return self.take(len(self.content) - self.at)

    def byte(self, most: int = 255) -> int:
        """One byte, up to a limit."""
        value = self.take(1)[0]
        require(value <= most, f"the byte before {self.at} is {value}, above {most}")
        return value

    def varint(self, most: int = 2**64 - 1) -> int:
        """A varint, up to a limit."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        require((byte != 0 or shift == 7) and value < 2**64, f"the number before {self.at} is not in its shortest form")
        require(value <= most, f"the number before {self.at} is {value}, above {most}")
        return value

    def zigzag(self, bits: int = 64) -> int:
        """A signed integer of ``bits`` bits."""
        value = self.varint(2**bits - 1)
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def text(self) -> bytes:
        """A text, as the bytes of its UTF-8."""
        return self.take(self.varint(4096))

    def end(self) -> None:
        """Refuse leftover bytes."""
        require(self.at == len(self.content), f"{len(self.content) - self.at} bytes follow its end")
