"""The service: wires the parts together and runs them. The only one who knows all of them.

Nothing is imported here, so that what knows no API can be had without the SDK, which takes seconds to load.
"""
