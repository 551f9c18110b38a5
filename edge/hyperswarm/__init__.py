"""Peers over TCP: the Noise handshake, the encrypted stream of frames, its channels, and the connections themselves."""
