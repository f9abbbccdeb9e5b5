"""Security of the transport and extended link layers: one module a mode. Pure functions.

The authentication code is checked first wherever a mode has one; nothing of the plaintext is looked at
before. Comparisons take constant time. Messages of errors never carry keys or plaintext.
"""
