"""The edge to the operating system: loop driver, transports, TLS engines, settings, traces, metrics, admin."""
