"""hypothesis strategies for suites of your own: environments of a stated family.

    from hypothesis import given
    from gapshift.deploy_tests.strategies import environments, read_family

    @given(environments(read_family(Path("family.toml"))))
    def test_my_service(environment): ...

Imports neither torch nor ONNX Runtime.
"""

from __future__ import annotations

from gapshift.flows.composing import environments, family_of, fitted, read_family
from gapshift.schema.family import Family

__all__ = ["Family", "environments", "family_of", "fitted", "read_family"]
