"""The wheel that a Raspberry Pi installs has the cipher; the symbol reader itself, on the wheel installed here."""

import importlib.util
import struct
from importlib.metadata import version
from pathlib import Path

import pytest
import support_arm64_libsodium as checker


def installed_library() -> bytes:
    binding = importlib.util.find_spec("nacl._sodium")
    assert binding is not None
    assert binding.origin is not None
    return Path(binding.origin).read_bytes()


def test_exported_symbols_are_read_and_imported_ones_are_not() -> None:
    machine, names = checker.exported_symbols(installed_library())
    assert machine in (62, checker.EM_AARCH64)  # x86-64, or the box itself
    assert set(checker.NEEDED) <= names
    assert "PyInit__sodium" in names
    assert "PyErr_Format" not in names  # used, but defined by the interpreter
    assert "crypto_stream_xsalsa20_xar" not in names


def test_what_is_no_such_object_is_refused() -> None:
    elf = installed_library()
    for data in (b"", b"MZ" + elf[2:], elf[:4] + b"\x01" + elf[5:]):
        with pytest.raises(ValueError, match="ELF"):
            checker.exported_symbols(data)
    machine, names = checker.exported_symbols(elf[:18] + struct.pack("<H", 40) + elf[20:])
    assert machine == 40
    assert names


@pytest.mark.interop
def test_the_wheel_for_aarch64_exports_the_cipher(tmp_path: Path) -> None:
    wheel = checker.download(tmp_path, version("pynacl"), "3.13")
    assert "aarch64" in wheel.name
    report = checker.check(wheel)
    assert report["missing"] == []
    assert report["ok"] is True
