"""The command `facedistill`: one module per command; nothing else imports them."""
