"""Trained SLAYER networks to netx HDF5 files, and proof that the exported network runs as it was trained."""

__all__: list[str] = []
