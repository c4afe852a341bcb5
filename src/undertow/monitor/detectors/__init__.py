"""Detectors of the proxy, one file each: they judge texts of requests and replies."""
