"""Models for other runtimes: traced, written with their contract, and compared with the original."""
