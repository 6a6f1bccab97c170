"""Language models that judge answers: behind a server, or on the devices here."""
