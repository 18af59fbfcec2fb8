"""Builds on many machines: Dask's scheduler and workers, one fixed task of plain data, peers that TLS knows."""
