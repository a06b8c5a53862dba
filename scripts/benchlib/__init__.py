"""Measurements of anthill_sync against their goals; started by ``scripts/bench``.

The measuring process imports nothing of what it measures: whatever runs long or needs memory is a
process of its own (``work``, or the ``anthill`` command), so one measurement cannot warm or fatten another.
"""
