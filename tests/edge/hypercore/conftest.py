"""Puts this folder's `support_*.py` within reach of its tests, under names that no other folder can take."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
