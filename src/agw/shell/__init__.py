"""The thin outside of the IMS-AGW: the byte path, listening and dialling, the H.248 association."""
