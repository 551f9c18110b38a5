"""Does PyNaCl's aarch64 wheel export what block encryption needs? Downloads the wheel and reads its symbol table.

Block encryption calls one libsodium function that PyNaCl has no binding for (edge/crypto/stream.py), so the shared
object in the wheel must export it. `make interop` runs this; `run_on_arm64.sh` beside it goes further and runs our
cipher on an emulated aarch64.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

NEEDED = ("crypto_stream_xsalsa20_xor", "sodium_init")
EM_AARCH64 = 183
SHT_DYNSYM = 11
SHN_UNDEF = 0
GLOBAL_OR_WEAK = (1, 2)
DEFAULT_OR_PROTECTED = (0, 3)


def exported_symbols(elf: bytes) -> tuple[int, set[str]]:
    """Machine and exported dynamic symbols of a 64-bit little-endian ELF file. Spec: System V ABI, chapter 4."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    (machine,) = struct.unpack_from("<H", elf, 18)
    (table,) = struct.unpack_from("<Q", elf, 40)
    entry_bytes, count = struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + entry_bytes * n) for n in range(count)]
    names: set[str] = set()
    for kind, offset, size, link, entry in ((s[1], s[4], s[5], s[6], s[9]) for s in sections):
        if kind != SHT_DYNSYM:
            continue
        strings = sections[link][4]
        for at in range(offset, offset + size, entry):
            name, info, other, section = struct.unpack_from("<IBBH", elf, at)
            if section != SHN_UNDEF and info >> 4 in GLOBAL_OR_WEAK and other & 3 in DEFAULT_OR_PROTECTED:
                end = elf.index(b"\0", strings + name)
                names.add(elf[strings + name : end].decode())
    return machine, names


def download(folder: Path, release: str, python: str) -> Path:
    """PyNaCl's manylinux aarch64 wheel of `release` for CPython `python` (like 3.11)."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--platform", "manylinux2014_aarch64", "--platform", "manylinux_2_34_aarch64"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(folder), f"pynacl=={release}"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check(wheel: Path) -> dict[str, object]:
    """What the wheel's shared object exports of what is needed."""
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".so"))
        machine, names = exported_symbols(archive.read(member))
    missing = [name for name in NEEDED if name not in names]
    ok = machine == EM_AARCH64 and not missing
    return {"wheel": wheel.name, "object": member, "aarch64": machine == EM_AARCH64, "missing": missing, "ok": ok}


def main() -> int:
    """Print one JSON line; 0 where everything is exported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default=version("pynacl"), help="of PyNaCl (default: the one installed here)")
    parser.add_argument("--python", default="3.13", help="CPython of the box (default 3.13)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = check(download(Path(folder), options.release, options.python))
    print(json.dumps(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
