"""From the figures of the fault campaigns to ``docs/reliability.rst``; started by ``scripts/reliability``."""
