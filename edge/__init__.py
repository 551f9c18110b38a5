"""Pomona on the box: a shop that prices for itself.

Importing any part of this package first switches off ONNX Runtime's telemetry. From version 1.29 that library looks
up a host name and writes a device id at import unless the variable is set *before* the import; nothing on the box
phones home.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["__version__"]
