"""Reader for a TensorFlow tensor bundle's index (the `variables.index` of a SavedModel).

The file is an SSTable in LevelDB's table format: data blocks of sorted, prefix-compressed
key/value pairs, an index block of handles to them, and a footer of 48 bytes. Key "" holds a
BundleHeaderProto, every other key is a tensor's name and holds a BundleEntryProto. Sources:
LevelDB's doc/table_format.md, TensorFlow's tensor_bundle.proto.

Every block's CRC-32C is checked. The tensors' own are not: that takes minutes in Python, and the
archive they come from is pinned by its SHA-256.
"""

import struct
from typing import NamedTuple, Tuple

MAX_INDEX_BYTES = 16 << 20
MAX_RANK = 8
DT_FLOAT = 1

_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # after each block: compression type, masked CRC-32C
_MAGIC = 0xDB4775248B80FB57


class BundleError(ValueError):
    """The index is not one, or not of a kind this reader takes."""


class Tensor(NamedTuple):
    name: str
    dtype: int
    shape: Tuple[int, ...]
    offset: int  # in the data file, bytes
    size: int  # bytes


def _crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


_CRC32C = _crc32c_table()


def crc32c(data):
    """CRC-32 with the Castagnoli polynomial, as RFC 3720 has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data):
    """LevelDB's mask, so that a CRC stored among data does not meet itself."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data, at):
    """-> (value, where the next byte is). At most 64 bits."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise BundleError("a number ends too early")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise BundleError("a number is longer than 64 bits")


def table(data):
    """[(key, value), ...] of a whole SSTable, keys rising."""
    if not _FOOTER_BYTES <= len(data) <= MAX_INDEX_BYTES:
        raise BundleError(f"{len(data)} bytes can't be a table")
    footer = data[-_FOOTER_BYTES:]
    if struct.unpack_from("<Q", footer, 40)[0] != _MAGIC:
        raise BundleError("no table magic at the end")
    at = 0
    handles = []
    for _ in range(4):  # offset and size of the metaindex, then of the index
        value, at = varint(footer[:40], at)
        handles.append(value)
    rows = []
    for _, handle in _block(data, handles[2], handles[3]):
        offset, at = varint(handle, 0)
        size, _ = varint(handle, at)
        rows.extend(_block(data, offset, size))
    for i in range(1, len(rows)):
        if rows[i - 1][0] >= rows[i][0]:
            raise BundleError("keys do not rise")
    return rows


def _block(data, offset, size):
    """The pairs of one block, each key rebuilt from the one before it."""
    end = offset + size
    if size < 4 or end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise BundleError("a block lies outside the table")
    if data[end] != 0:
        raise BundleError(f"compression type {data[end]} is not read here")
    if masked_crc32c(data[offset:end + 1]) != struct.unpack_from("<I", data, end + 1)[0]:
        raise BundleError("a block's CRC-32C does not match")
    block = data[offset:end]
    restarts = struct.unpack_from("<I", block, size - 4)[0]
    stop = size - 4 - 4 * restarts
    if restarts < 1 or stop < 0:
        raise BundleError("a block's restart array does not fit")
    pairs = []
    key = b""
    at = 0
    while at < stop:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + fresh + length > stop:
            raise BundleError("a pair does not fit into its block")
        key = key[:shared] + block[at:at + fresh]
        at += fresh
        pairs.append((key, block[at:at + length]))
        at += length
    return pairs


def fields(data):
    """[(number, value), ...] of a protobuf message: ints, or bytes for what has a length."""
    found = []
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = int.from_bytes(data[at:at + width], "little"), at + width
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at:at + length], at + length
        else:
            raise BundleError(f"protobuf wire type {kind}")
        if at > len(data):
            raise BundleError("a protobuf field ends too early")
        found.append((tag >> 3, value))
    return found


def _wanted(data, kinds):
    """The fields of `kinds` (number -> type), the last of each; another type is an error."""
    found = {}
    for number, value in fields(data):
        if number in kinds:
            if not isinstance(value, kinds[number]):
                raise BundleError(f"protobuf field {number} is of another type")
            found[number] = value
    return found


def _shape(data):
    dims = []
    for number, value in fields(data):
        if number != 2:  # TensorShapeProto.dim
            continue
        if not isinstance(value, bytes):
            raise BundleError("a shape that is none")
        dims.append(_wanted(value, {1: int}).get(1, 0))
    if len(dims) > MAX_RANK:
        raise BundleError(f"a tensor of rank {len(dims)}")
    return tuple(dims)


def tensors(data):
    """{name: Tensor} of a bundle index whose tensors lie in one little-endian data file."""
    rows = table(data)
    if not rows or rows[0][0] != b"":
        raise BundleError("no bundle header")
    header = _wanted(rows[0][1], {1: int, 2: int})
    if header.get(1, 0) != 1 or header.get(2, 0) != 0:
        raise BundleError("not one little-endian data file")
    found = {}
    for key, value in rows[1:]:
        try:
            name = key.decode("utf-8")
        except UnicodeDecodeError:
            raise BundleError("a tensor's name is not UTF-8") from None
        entry = _wanted(value, {1: int, 2: bytes, 3: int, 4: int, 5: int, 7: bytes})
        if entry.get(3, 0) != 0 or 7 in entry:
            raise BundleError(f"{name}: in slices or in another data file")
        found[name] = Tensor(name, entry.get(1, 0), _shape(entry.get(2, b"")),
                             entry.get(4, 0), entry.get(5, 0))
    return found
