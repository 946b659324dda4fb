"""What the built program's ELF file says of its hardening, read from its bytes."""
import pathlib
import platform
import re
import struct
import subprocess

import pytest
from conftest import BIN

PT_DYNAMIC, PT_GNU_STACK, PT_GNU_RELRO = 2, 0x6474E551, 0x6474E552
DT_TEXTREL, DT_FLAGS, DT_FLAGS_1, DT_BIND_NOW = 22, 30, 0x6FFFFFFB, 24
DF_BIND_NOW, DF_1_NOW, DF_1_PIE = 8, 1, 0x08000000
ET_DYN, PF_X = 3, 1


class Elf:
    """A 64-bit little-endian ELF file, as far as is needed here."""

    def __init__(self, data):
        self.data = data
        assert data[:6] == b"\x7fELF\x02\x01"
        (self.type,) = struct.unpack_from("<H", data, 16)
        phoff, shoff = struct.unpack_from("<QQ", data, 32)
        phsize, phnum, shsize, shnum, _ = struct.unpack_from("<5H", data, 54)
        self.segments = []
        for i in range(phnum):
            kind, flags, offset, _, _, size = struct.unpack_from("<IIQQQQ", data, phoff + i * phsize)
            self.segments.append((kind, flags, offset, size))
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shsize) for i in range(shnum)]

    def segment(self, kind):
        return next((s for s in self.segments if s[0] == kind), None)

    def dynamic(self):
        _, _, offset, size = self.segment(PT_DYNAMIC)
        return dict(struct.unpack_from("<QQ", self.data, at) for at in range(offset, offset + size, 16))

    def symbols(self, kind):
        """{name: value} of SHT_DYNSYM (11) or SHT_SYMTAB (2)."""
        found = {}
        for section in self.sections:
            if section[1] != kind:
                continue
            offset, size, link = section[4], section[5], section[6]
            strings = self.sections[link][4]
            for at in range(offset, offset + size, 24):
                name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", self.data, at)
                end = self.data.index(b"\0", strings + name)
                found[self.data[strings + name:end].decode()] = value
        return found

    def at(self, address, size):
        for section in self.sections:
            if section[1] == 1 and section[3] <= address < section[3] + section[5]:
                start = section[4] + address - section[3]
                return self.data[start:start + size]
        return b""


@pytest.fixture(scope="module")
def elf():
    return Elf(pathlib.Path(BIN).read_bytes())


@pytest.fixture(scope="module")
def release():
    cache = pathlib.Path(BIN).parent / "CMakeCache.txt"
    text = cache.read_text() if cache.exists() else ""
    if not re.search(r"^CMAKE_BUILD_TYPE:\w+=Release$", text, re.M):
        pytest.skip("only Release builds are hardened in full")
    return text


def test_relocations_are_read_only_and_bound_at_the_start(elf):
    dynamic = elf.dynamic()
    assert elf.type == ET_DYN and dynamic.get(DT_FLAGS_1, 0) & DF_1_PIE
    assert elf.segment(PT_GNU_RELRO)
    assert dynamic.get(DT_FLAGS, 0) & DF_BIND_NOW or DT_BIND_NOW in dynamic or dynamic[DT_FLAGS_1] & DF_1_NOW
    assert DT_TEXTREL not in dynamic


def test_no_memory_is_writable_and_executable(elf):
    assert not elf.segment(PT_GNU_STACK)[1] & PF_X
    assert not any(flags & 3 == 3 for kind, flags, _, _ in elf.segments if kind == 1)


def test_copies_are_checked_at_level_3_where_there_is_one(elf, release):
    imported = elf.symbols(11)
    assert "__stack_chk_fail" in imported
    assert {name for name in imported if re.fullmatch(r"__(v?snprintf|memcpy|memmove|memset|read)_chk", name)}
    if "ORTHRUS_HAS_FORTIFY_3:INTERNAL=1" in release:
        flags = (pathlib.Path(BIN).parent / "compile_commands.json").read_text()
        assert "-D_FORTIFY_SOURCE=3" in flags and "-D_FORTIFY_SOURCE=2" not in flags


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions of x86-64")
def test_indirect_branches_land_on_endbr64(elf, release):
    if "ORTHRUS_HAS_fcf_protection_full:INTERNAL=1" not in release:
        pytest.skip("the compiler has no CET")
    symbols = elf.symbols(2)
    for name in ("main", "server_run", "log_writer_put", "heads_create"):
        assert elf.at(symbols[name], 4) == bytes.fromhex("f30f1efa"), name


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions of x86-64")
def test_large_frames_are_probed_page_by_page(elf, release):
    """-fstack-clash-protection: `orq $0,(%rsp)` or its like while the stack grows past a page."""
    if "ORTHRUS_HAS_fstack_clash_protection:INTERNAL=1" not in release:
        pytest.skip("the compiler has no stack-clash protection")
    assert elf.data.count(bytes.fromhex("48830c2400")) > 5


def test_it_still_says_its_version():
    assert subprocess.run([BIN, "--version"], capture_output=True, check=True, timeout=60).stdout.startswith(b"orthrus ")
