"""Home area network: the consumer, the service technician and controllable devices.

Empty until the consumer side is built: the gateway of today opens no port towards the home.
"""
