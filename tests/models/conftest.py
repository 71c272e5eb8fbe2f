"""Puts this folder's ``small_grace.py`` on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
