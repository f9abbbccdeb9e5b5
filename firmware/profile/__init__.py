"""Profiles: what the administrator says may be measured, evaluated and sent."""
