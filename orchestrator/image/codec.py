"""Values of a TFS log as bytes: varints, headers, and the dictionary that spans the whole log.

Versions 5 and 4 of the encoding differ in the header byte: 5 has three bits of type and three of length,
4 has one bit of type (buffer or tuple) and five of length, so it knows no vectors, integers or typed strings.
"""

from __future__ import annotations

from typing import Final

from orchestrator.values import Value

from .errors import ImageError

BUFFER: Final = 0
TUPLE: Final = 1
VECTOR: Final = 2
INTEGER: Final = 3
STRING: Final = 4

VERSIONS: Final = (4, 5)
MAX_VARINT: Final = 10  # bytes; 64 bits in groups of 7
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


def encode_varint(number: int) -> bytes:
    """Big-endian groups of seven bits, the top bit set on all but the last byte. `number` ≥ 0."""
    groups = [number & 0x7F]
    number >>= 7
    while number:
        groups.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes(reversed(groups))


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
        low = 5 if self.version == 4 else 3
        groups = max(0, -(-(length.bit_length() - low) // 7))
        first = (immediate << 7) | (kind << (low + 1)) | (length >> (7 * groups))
        self.data.append(first | (1 << low) if groups else first)
        for shift in range(7 * (groups - 1), -1, -7):
            self.data.append(((length >> shift) & 0x7F) | (0x80 if shift else 0))

    def symbol(self, name: str) -> None:
        """A tuple's key: spelt out the first time, by index afterwards."""
        raw = encode_text(name)
        index = self._symbols.get(raw)
        if index is not None:
            self.header(BUFFER, index, immediate=False)
            return
        self.header(BUFFER, len(raw))
        self.data += raw
        self._entries += 1
        self._symbols[raw] = self._entries

    def tuple_header(self, entries: int) -> None:
        """A new tuple of `entries` (symbol, value) pairs, which the caller encodes next."""
        self.header(TUPLE, entries)
        self._entries += 1

    def string(self, text: str) -> None:
        """A string value. The empty one decodes as "no such key": neither Nanos nor ops can tell them apart."""
        raw = encode_text(text)
        self.header(BUFFER if self.version == 4 else STRING, len(raw))
        self.data += raw

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
        self._data, self._at, self._low = data, 0, 5 if version == 4 else 3
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
                value, entries = self._value()
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
