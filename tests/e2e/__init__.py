"""Black-box tests of the daemon: the real process, real folders, and the simulator over HTTP as the judge."""
