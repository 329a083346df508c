"""Pure codecs and machines: no socket, clock, task, random source or log lives here."""
