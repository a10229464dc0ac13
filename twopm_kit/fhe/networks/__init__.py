"""Torch networks on ciphertexts: traced into affine maps and polynomials, planned, then run encrypted."""
