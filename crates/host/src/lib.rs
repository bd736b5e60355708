//! Processes, files, ports and the clock: the one seam for effects.
