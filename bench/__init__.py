"""Side-by-side measurements of poolers on one PostgreSQL: ``python -m bench --help``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))  # throwaway_postgres
