"""Images to send, in any form, and the formats of images."""
