"""From preference files to batches: schema → images and tokens → index → rows → loader. No JAX in here."""
