"""The verbs of the service, one class per kind of thing."""
