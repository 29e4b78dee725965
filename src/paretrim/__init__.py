"""Paretrim: the frontier of smaller, faster versions of a trained vision network, measured on the files that ship."""

__version__ = "0.1.0"
