"""Runners: one compiled model, one device, arrays in and arrays out."""
