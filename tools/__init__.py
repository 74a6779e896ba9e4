"""What we measure ourselves with: equality with originals, memory, costs."""
