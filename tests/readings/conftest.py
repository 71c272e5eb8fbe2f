"""Tests of this folder share ``tool_tables.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
