"""The weights that a run begins with: the policy at step 0, and the reference throughout."""

from rlaifv_jax.errors import UserError
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.models.blueprint import Params, join
from rlaifv_jax.models.lora import without_adapters
from rlaifv_jax.prepare import Run


class StartingModel:
    """Streamed onto the mesh when first needed, at most once; a run that is resumed may never need it.

    Args:
      name: the fingerprint that the weights must have, where an earlier part of the run knows it.
    """

    def __init__(self, run: Run, name: str | None):
        self.run = run
        self.expected = name
        self.loaded: tuple[Params, Params] | None = None

    @property
    def name(self) -> str:
        """Fingerprint of the weights in compute precision; adapters add nothing yet."""
        if self.expected is None:
            self.params()
        assert self.expected is not None
        return self.expected

    def params(self) -> tuple[Params, Params]:
        """(trainable, frozen).

        Raises:
          UserError: model.path holds other weights than those the run began with.
        """
        if self.loaded is None:
            loaded = self.run.load_params()
            found = model_fingerprint(without_adapters(join(*loaded)), self.run.step.dtype)
            if self.expected not in (None, found):
                raise UserError(
                    f"model.path: {self.run.config.model.path} is not the model that the run in "
                    f"{self.run.output_dir} began with; bring that one back, or choose another output_dir"
                )
            self.expected, self.loaded = found, loaded
        return self.loaded

    def forget(self) -> None:
        """Free the devices of the weights, where nobody else holds them."""
        self.loaded = None

    def take(self) -> tuple[Params, Params]:
        """The weights for somebody who will change or donate them."""
        loaded = self.params()
        self.forget()
        return loaded
