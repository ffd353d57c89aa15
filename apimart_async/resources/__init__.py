"""The methods of the clients: one class for each kind of resource."""
