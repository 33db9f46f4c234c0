"""Foundations without a subject of their own: errors, arithmetic, random numbers, devices, atomic files."""
