"""Measuring scripts of this project: equality with originals, memory, speed, costs."""
