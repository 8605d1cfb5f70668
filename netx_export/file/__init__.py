"""Files: netx HDF5 and recorded spikes, read without trust and written whole or not at all."""
