"""Monitoring of deployed models: a proxy whose detectors read the traffic, and canary questions asked on a schedule.

An exchange is one request with its reply. A detector judges one text, or gathers evidence over many. A baseline holds
canary questions with the replies that a person approved (signed off); later replies are compared with it.
"""
