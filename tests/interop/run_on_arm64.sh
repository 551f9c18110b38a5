#!/bin/sh
# Runs Pomona's block cipher on an emulated aarch64: Debian's arm64 Python and C library, PyNaCl's arm64 wheel and
# qemu-user-static are unpacked into a folder (about 80 MB, nothing is installed), and the stock vectors are decrypted.
# Needs Debian 12 on amd64 with apt and pip. usage: run_on_arm64.sh [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
folder=${1:-$(mktemp -d)}
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/debs" "$folder/root" "$folder/site"
touch "$folder/status"
cat > "$folder/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State::lists "$folder/lists";
Dir::Cache "$folder/cache";
Dir::State::status "$folder/status";
END
cd "$folder/debs"
APT_CONFIG="$folder/apt.conf" apt-get update -qq
APT_CONFIG="$folder/apt.conf" apt-get download -qq python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
	libc6 libexpat1 zlib1g libffi8 libgcc-s1
apt-get download -qq qemu-user-static
for package in *.deb; do dpkg-deb -x "$package" "$folder/root"; done
release=$("$python" -c 'from importlib.metadata import version; print(version("pynacl"))')
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --platform manylinux2014_aarch64 \
	--python-version 3.11 --implementation cp --target "$folder/site" "pynacl==$release"
cat > "$folder/check.py" <<END
import json, platform, sys
sys.path[:0] = ["$folder/site", "$repository"]
from edge.crypto import stream
from edge.hypercore.encryption import BlockCipher
# D. J. Bernstein, "Cryptography in NaCl", section 8: first key, first nonce, first bytes of the stream.
key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
assert stream.xor(bytes(8), nonce, key).hex() == "eea6a7251c1e7291"
vectors = json.load(open("$repository/tests/edge/hypercore/vectors.json"))
cipher = BlockCipher.of_block_key(bytes([78 ^ vectors["salt"]]) * 32)
blocks = vectors["cores"]["block_key"]["raw"]
for index, raw in ((int(index), bytes.fromhex(raw)) for index, raw in blocks.items()):
    plain = bytes((index + 3 * j + vectors["salt"]) & 0xFF for j in range(index * 7 % 200))
    assert cipher.decrypt(index, raw) == plain and cipher.encrypt(index, 0, plain) == raw
print(f"{platform.machine()}: PyNaCl $release, {len(blocks)} stock blocks decrypted and encrypted alike")
END
PYTHONHOME="$folder/root/usr" "$folder/root/usr/bin/qemu-aarch64-static" -L "$folder/root" \
	"$folder/root/usr/bin/python3.11" -B "$folder/check.py"
