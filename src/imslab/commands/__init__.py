"""The commands of ``imslab``, one module each."""
