"""Storms: many calls with traffic through real processes while things go wrong, and what is left afterwards."""
