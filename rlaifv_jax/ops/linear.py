"""Linear maps of activations."""

import jax


@jax.custom_vjp
def linear(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x[..., D] @ kernel[D, F] → [..., F].

    The kernel's gradient is a product over all tokens, which needs one of its two factors transposed. Left to
    itself, JAX takes the gradient of the output; here it is the narrower of the two. On CPUs, where XLA writes the
    transposed factor to memory, a training step is a tenth faster by it.
    """
    return x @ kernel


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel, (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    tokens = tuple(range(x.ndim - 1))
    over_tokens = ((tokens, tokens), ((), ()))
    if x.shape[-1] <= gradient.shape[-1]:
        to_kernel = jax.lax.dot_general(x, gradient, over_tokens)
    else:
        to_kernel = jax.lax.dot_general(gradient, x, over_tokens).T
    return gradient @ kernel.T, to_kernel


linear.defvjp(_forward, _backward)


@jax.custom_vjp
def linear_int8(x: jax.Array, kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """(x[..., D] @ kernel int8[D, F]) · scale[F] → [..., F]. Of kernel and scale, which are not trained, there is no
    gradient, and nothing but them is kept for the backward pass."""
    return (x @ kernel.astype(x.dtype)) * scale


def _forward_int8(x: jax.Array, kernel: jax.Array, scale: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return linear_int8(x, kernel, scale), (kernel, scale)


def _backward_int8(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, None, None]:
    kernel, scale = saved
    return (gradient * scale) @ kernel.astype(gradient.dtype).T, None, None


linear_int8.defvjp(_forward_int8, _backward_int8)
