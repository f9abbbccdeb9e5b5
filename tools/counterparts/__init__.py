"""The other end of every link, each runnable alone against a real gateway.

Counterparts share message codecs with the product and none of its checks.
"""
