"""Key pairs (RFC 8032's first test vector) and the files that secrets live in."""

import os
from pathlib import Path

import pytest

from edge.crypto.keys import KeyPair, new_secret, parse_key, read_secret, signature_valid, write_secret
from edge.errors import ConfigError, LocalError, StorageError, StorageFault

SECRET = bytes(range(32))


def test_rfc_8032_test_1() -> None:
    pair = KeyPair.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert pair.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = pair.sign(b"")
    assert signature.hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    assert signature_valid(pair.public_key, b"", signature)


def test_signatures_fit_one_message_and_one_key() -> None:
    pair, other = KeyPair.generate(), KeyPair.generate()
    signature = pair.sign(b"message")
    assert len(signature) == 64
    assert signature_valid(pair.public_key, b"message", signature)
    assert not signature_valid(pair.public_key, b"messagf", signature)
    assert not signature_valid(other.public_key, b"message", signature)
    assert not signature_valid(pair.public_key, b"message", signature[:-1])
    assert not signature_valid(pair.public_key[:-1], b"message", signature)
    assert not signature_valid(pair.public_key, b"message", bytes([signature[0] ^ 1]) + signature[1:])


def test_secrets_stay_out_of_repr_and_seeds_have_32_bytes() -> None:
    pair = KeyPair.from_seed(SECRET)
    assert SECRET.hex() not in repr(pair)
    assert repr(SECRET) not in repr(pair)
    assert "secret" not in repr(pair)
    with pytest.raises(LocalError):
        KeyPair.from_seed(SECRET[:31])
    assert new_secret() != new_secret()


def test_a_secret_file_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        write_secret(path, SECRET)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path) == SECRET
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_secret_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, SECRET)
    with pytest.raises(StorageError, match="never overwritten") as caught:
        write_secret(path, bytes(32))
    assert caught.value.fault is StorageFault.READ_ONLY
    assert read_secret(path) == SECRET
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_no_file_is_none_and_no_folder_is_a_fault(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "key") is None
    with pytest.raises(StorageError):
        write_secret(tmp_path / "absent" / "key", SECRET)
    with pytest.raises(StorageError):
        read_secret(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    write_secret(path, SECRET)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secret(path)


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "0" * 63, "0" * 65, "0" * 64 + "\n\n", " " + "0" * 63, "٠" * 64])
def test_a_key_is_64_hexadecimal_digits_and_nothing_else(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        parse_key(text, what="flag")
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        read_secret(path)
