"""Byte-level codecs: compact-encoding of the peer protocol, canonical CBOR of our records."""
