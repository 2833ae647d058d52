"""Catalogues larger than memory: streams of chunks, and partitions on many machines."""
