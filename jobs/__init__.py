"""The chapters of run.py: they may import all files; only run.py and paper/ import them."""
