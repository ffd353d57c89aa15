"""An image, whatever it comes as, checked before money is spent."""
