"""Power measured with SPEC's PTDaemon: both ends of MLPerf's director protocol.

The director (``director``) is the machine beside the meter; the client (``client``)
the system under test. What they say to each other and what they write is that of
``ptd_client_server`` (mlcommons/power-dev c4b3ad82), so that either end can be theirs.
A submission has to be measured by theirs at both ends.
"""
