"""Hashes, key pairs and the stream cipher, all of libsodium or hashlib."""
