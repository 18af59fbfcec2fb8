"""Values of a TFS log as bytes, and the dictionary that spans the whole log."""

from __future__ import annotations

import re
from typing import Final

from orchestrator.values import Value

from .errors import ImageError
from .headers import (
    BUFFER,
    FILE_KEYS,
    INTEGER,
    MAX_VARINT,
    STRING,
    TUPLE,
    VECTOR,
    VERSIONS,
    encode_header,
    encode_varint,
    file_node_pattern,
    low_bits,
    strip_header,
    text_kind,
)

MAX_DEPTH: Final = 640  # tuples within tuples; a directory takes two levels, see reader.MAX_DIRECTORIES
_DAMAGED: Final = "the image is damaged, or was not written by ops or this program; build it again"

Raw = Value
"""A decoded value. Tuples are dicts and may be shared or cyclic as long as nobody has checked them."""


class _Delete:
    """The value that takes its key out of the tuple (an empty buffer or string)."""


_DELETE: Final = _Delete()


def damaged(message: str) -> ImageError:
    """An ImageError for bytes that no writer makes."""
    return ImageError(message, remedy=_DAMAGED)


def encode_text(text: str) -> bytes:
    """UTF-8, with bytes that were not UTF-8 given back as they were; ImageError for text that is no bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ImageError(f"the text {text!r} cannot be written as UTF-8", remedy="rename it") from error


class Encoder:
    """Encodes one tuple into `data`, handing out dictionary indices as the decoder will."""

    def __init__(self, version: int = 5) -> None:
        if version not in VERSIONS:
            raise ValueError(f"TFS version {version}: only 4 and 5 exist")
        self.version = version
        self.data = bytearray()
        self._symbols: dict[bytes, int] = {}
        self._entries = 0

    def header(self, kind: int, length: int, *, immediate: bool = True) -> None:
        """One value header."""
        self.data += encode_header(self.version, kind, length, immediate=immediate)

    def symbol(self, name: str) -> None:
        """A tuple's key: spelt out the first time, by index afterwards."""
        raw = encode_text(name)
        index = self._symbols.get(raw)
        if index is not None:
            self.data += encode_header(self.version, BUFFER, index, immediate=False)
            return
        self.data += encode_header(self.version, BUFFER, len(raw))
        self.data += raw
        self._entries += 1
        self._symbols[raw] = self._entries

    def tuple_header(self, entries: int) -> None:
        """A new tuple of `entries` (symbol, value) pairs, which the caller encodes next."""
        self.header(TUPLE, entries)
        self._entries += 1

    def string(self, text: str) -> None:
        """A string value. The empty one decodes as "no such key": neither Nanos nor ops can tell them apart."""
        self.data += self.encoded_text(text)

    def add_encoded(self, data: bytes, *, tuples: int) -> None:
        """Values that were encoded by the methods below, with so many new tuples among them."""
        self.data += data
        self._entries += tuples

    def encoded_symbol(self, name: str) -> bytes:
        """The bytes of a key that was spelt out before."""
        return encode_header(self.version, BUFFER, self._symbols[encode_text(name)], immediate=False)

    def encoded_text(self, text: str) -> bytes:
        """The bytes of a string value."""
        raw = encode_text(text)
        return encode_header(self.version, text_kind(self.version), len(raw)) + raw

    def value(self, value: Value) -> None:
        """Any value. Version 4 has neither vectors (tuples keyed "0", "1", … stand in) nor integers (decimals)."""
        if value is None:
            self.header(BUFFER, 1)
            self.data.append(0)
        elif isinstance(value, str):
            self.string(value)
        elif isinstance(value, int):
            self._integer(value)
        elif isinstance(value, list):
            self._vector(value)
        elif isinstance(value, dict):
            self.tuple_header(len(value))
            for name in sorted(value, key=encode_text):
                self.symbol(name)
                self.value(value[name])
        else:
            raise ImageError(
                f"a manifest value of type {type(value).__name__} cannot be stored in an image",
                remedy="use text, integers, lists and mappings",
            )

    def _integer(self, value: int) -> None:
        if self.version == 4:
            self.string(str(int(value)))
            return
        self.header(INTEGER, 1 if value < 0 else 0)
        self.data += encode_varint(abs(value))

    def _vector(self, value: list[Value]) -> None:
        if self.version == 4:
            self.tuple_header(len(value))
            for position, item in enumerate(value):
                self.symbol(str(position))
                self.value(item)
            return
        self.header(VECTOR, len(value))
        self._entries += 1
        for item in value:
            self.value(item)


class _Frame:
    """A tuple or vector whose entries are being read."""

    __slots__ = ("container", "left", "position")

    def __init__(self, container: dict[str, Raw] | list[Raw], left: int) -> None:
        self.container = container
        self.left = left
        self.position = 0


class Decoder:
    """Decodes the tuples of one log, in order. `root` is the tuple with dictionary index 1.

    Every entry costs at least one byte of the log, nothing is sized by a length that the bytes don't back, and
    there is no recursion, so hostile bytes cost at most memory in proportion to their number.
    """

    def __init__(self) -> None:
        self._dictionary: list[dict[str, Raw] | list[Raw] | str] = []
        self._data = b""
        self._at = 0
        self._low = 3
        self._version = 0
        self._file_keys: dict[str, int] = {}
        self._file: re.Pattern[bytes] | None = None

    @property
    def root(self) -> dict[str, Raw]:
        """The root tuple; ImageError when the log holds none."""
        if not self._dictionary:
            raise damaged("the file system's log holds no root tuple")
        root = self._dictionary[0]
        if not isinstance(root, dict):
            raise damaged("the first entry of the file system's log is not a tuple")
        return root

    def decode(self, data: bytes, version: int) -> None:
        """Decode exactly one tuple from `data`, merging it into what came before."""
        self._data, self._at, self._low = data, 0, low_bits(version)
        if version != self._version:
            self._version = version
            self._prepare()
        value, entries = self._value()
        if not isinstance(value, dict):
            raise damaged("a record of the file system's log is not a tuple")
        stack = [_Frame(value, entries)]
        while stack:
            frame = stack[-1]
            if frame.left == 0:
                stack.pop()
                continue
            frame.left -= 1
            container = frame.container
            if isinstance(container, dict):
                name = self._symbol()
                value, entries = self._file_node(len(stack)) or self._value()
                _set_key(container, name, value)
            else:
                value, entries = self._value()
                _set_item(container, frame.position, value)
                frame.position += 1
            if entries >= 0:
                if len(stack) >= MAX_DEPTH:
                    raise damaged(f"tuples are nested deeper than {MAX_DEPTH}")
                assert isinstance(value, dict | list)  # only these have entries
                stack.append(_Frame(value, entries))
        if self._at != len(data):
            raise damaged(f"a tuple is {len(data)} bytes long but its value ends after {self._at}")

    def _learn(self, name: str) -> None:
        """Take note of the first place of a key that nodes of files have."""
        if name not in self._file_keys:
            self._file_keys[name] = len(self._dictionary)
            self._prepare()

    def _prepare(self) -> None:
        """Once all of them are known, what such a node looks like."""
        keys, version = self._file_keys, self._version
        self._file = None
        if len(keys) == len(FILE_KEYS):
            self._file = file_node_pattern(
                version, lambda name: encode_header(version, BUFFER, keys[name], immediate=False)
            )

    def _file_node(self, depth: int) -> tuple[Raw, int] | None:
        """The next value, where it is a file's node as this program writes it; the same as its 14 parts one by one."""
        match = self._file.match(self._data, self._at) if self._file is not None and depth < MAX_DEPTH - 3 else None
        if match is None:
            return None
        self._at = match.end()
        allocated, length, offset, size = map(strip_header, match.groups())
        extent: dict[str, Raw] = {"allocated": allocated, "length": length, "offset": offset}
        extents: dict[str, Raw] = {"0": extent}
        node: dict[str, Raw] = {"extents": extents, "filelength": size}
        self._dictionary += (node, extents, extent)
        return node, -1

    def _header(self) -> tuple[int, int, int]:
        """(immediate, type, length) of the next header."""
        data, at, low = self._data, self._at, self._low
        if at >= len(data):
            raise damaged("a tuple ends inside a value")
        first = data[at]
        at += 1
        length = first & ((1 << low) - 1)
        if first & (1 << low):
            length, at = _groups(data, at, length)
        self._at = at
        return first >> 7, (first >> (low + 1)) & ((1 << (6 - low)) - 1), length

    def _varint(self) -> int:
        number, self._at = _groups(self._data, self._at, 0)
        return number

    def _bytes(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise damaged(f"a value of {length} bytes runs past the end of its tuple")
        raw = self._data[self._at : end]
        self._at = end
        return raw

    def _entry(self, index: int) -> dict[str, Raw] | list[Raw] | str:
        if not 1 <= index <= len(self._dictionary):
            raise damaged(f"dictionary index {index} is unknown (the log has defined {len(self._dictionary)} entries)")
        return self._dictionary[index - 1]

    def _symbol(self) -> str:
        immediate, kind, length = self._header()
        if kind != BUFFER:
            raise damaged(f"a key of a tuple has type {kind}")
        if not immediate:
            return self._text(length)
        name = self._bytes(length).decode("utf-8", "surrogateescape")
        self._dictionary.append(name)
        if name in FILE_KEYS:
            self._learn(name)
        return name

    def _text(self, index: int) -> str:
        entry = self._entry(index)
        if not isinstance(entry, str):
            raise damaged(f"dictionary index {index} is not a symbol")
        return entry

    def _value(self) -> tuple[Raw | _Delete, int]:
        """The next value and, for a tuple or vector, the number of entries that follow (else -1)."""
        immediate, kind, length = self._header()
        if kind == TUPLE:
            return self._composite({}, immediate), length
        if kind == VECTOR:
            return self._composite([], immediate), length
        if kind == INTEGER:
            number = self._varint()
            return (-number if length else number), -1
        if kind not in (BUFFER, STRING):
            raise damaged(f"a value has the unknown type {kind}")
        if length == 0:
            return _DELETE, -1
        if not immediate:
            return self._text(length), -1
        raw = self._bytes(length)
        if kind == BUFFER and raw == b"\0":
            return None, -1
        return raw.decode("utf-8", "surrogateescape"), -1

    def _composite(self, new: dict[str, Raw] | list[Raw], immediate: int) -> dict[str, Raw] | list[Raw]:
        if immediate:
            self._dictionary.append(new)
            return new
        index = self._varint()
        old = self._entry(index)
        if isinstance(old, str) or isinstance(old, dict) != isinstance(new, dict):
            raise damaged(f"dictionary index {index} is not a {'tuple' if isinstance(new, dict) else 'vector'}")
        return old


def _set_key(container: dict[str, Raw], name: str, value: Raw | _Delete) -> None:
    if not name:
        return  # old versions of ops wrote attributes without a name; ops and Nanos never look them up
    if isinstance(value, _Delete):
        container.pop(name, None)
    else:
        container[name] = value


def _set_item(container: list[Raw], position: int, value: Raw | _Delete) -> None:
    # A vector keeps its order, so an empty string stays one.
    item = "" if isinstance(value, _Delete) else value
    if position < len(container):
        container[position] = item
    else:
        container.append(item)


def _groups(data: bytes, at: int, number: int) -> tuple[int, int]:
    """`number` with the seven-bit groups at `at` appended, and where they end."""
    for at_now in range(at, min(at + MAX_VARINT, len(data))):
        byte = data[at_now]
        number = (number << 7) | (byte & 0x7F)
        if not byte & 0x80:
            if number >> 64:
                break
            return number, at_now + 1
    raise damaged("a number in the file system's log is cut short or larger than 64 bits")
