"""Detectors of the proxy, one small file each."""
