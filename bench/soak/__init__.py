"""``python -m bench.soak``: a pooler among every kind of client and trouble, and whether all is as it should be."""
