"""One MLIR context for all that a thread compiles: to make one takes 5 ms, half of what a small function takes to lower."""

import contextlib
import threading


def share_a_context() -> None:
    """Have JAX lower in one context per thread. It has no public name for this; a version with another takes longer."""
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src.interpreters import mlir

        of_thread, make = threading.local(), mlir.make_ir_context

        def make_ir_context():
            if not hasattr(of_thread, "context"):
                of_thread.context = make()
            return of_thread.context

        mlir.make_ir_context = make_ir_context
