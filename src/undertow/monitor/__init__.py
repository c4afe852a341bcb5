"""Watch what is deployed: a proxy that screens, and canary questions asked on a schedule."""
