"""The validation page from scratch: one module a section, each of which returns rows; `page` writes them.

PYTHONPATH=benchmarks:tests python -m validate [--quick] [--only exactness,misspecification] [--output FOLDER]
"""
